"""The MLflow user interface as a person sees it: two runs found, compared, a figure opened; screenshots are kept."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from twinnet.config.schema import Tracking
from twinnet.tracking.store import connect
from twinnet.training import Run

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("server"), pytest.mark.timeout(600)]
WAIT = 120_000  # milliseconds; a page takes a few seconds, and more on a busy machine
PATIENT = Tracking(timeout_seconds=60, patience_seconds=120.0)
# No request leaves the machine, and no sandbox where the tests run as root.
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-quic", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


@pytest.fixture
def page() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(WAIT)
        yield page
        browser.close()


@pytest.fixture
def screenshots(root: Path) -> Path:
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_two_runs_are_found_compared_and_looked_at(
    server: str,
    train: Callable[..., Run],
    page: Any,
    screenshots: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    shown = {"shown": "browser"}
    train("epochs=300", name="nba_scratch", settings=PATIENT, tags=shown)
    train("epochs=300", "engine=keras", name="nba_keras", settings=PATIENT, tags=shown)
    runs = {run.info.run_name: run for run in connect(server).search("tags.shown = 'browser'")}
    assert runs.keys() == {"nba_scratch", "nba_keras"}
    experiment = runs["nba_scratch"].info.experiment_id

    page.goto(f"{server}/#/experiments/{experiment}/runs?searchFilter={quote('tags.shown = ' + repr('browser'))}")
    for name in runs:
        page.get_by_role("link", name=name, exact=True).first.wait_for()
    page.screenshot(path=screenshots / "runs.png")
    assert "Traces" not in page.get_by_role("navigation").all_inner_texts()[0] or page.url.endswith("runs")

    ids = [run.info.run_id for run in runs.values()]
    page.goto(f"{server}/#/compare-runs?runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([experiment]))}")
    for name in runs:
        page.get_by_text(name).first.wait_for()
    page.screenshot(path=screenshots / "compare.png", full_page=True)
