"""The MLflow user interface as a person sees it: two runs found, compared, a figure opened; screenshots are kept."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import chromium_page
from tests.servers import serving
from twinnet.core import config
from twinnet.core.schema import Experiment, Tracking
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.figures.style import BLUE, GREEN, ORANGE
from twinnet.tracking.live import tracker
from twinnet.tracking.store import connect
from twinnet.training import experiment as training
from twinnet.training.experiment import Run

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("server"), pytest.mark.timeout(900)]
PATIENT = Tracking(timeout_seconds=60, patience_seconds=120.0)
TWO_CURVES = """
    [...document.querySelectorAll('.js-plotly-plot')].filter(
        chart => chart.querySelectorAll('.scatterlayer .trace path.js-line').length >= 2).length >= 2
"""  # in charts of two metrics at least; not by colour, which MLflow draws from 40 or so by a hash of the run's id


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium_page() as page:
        yield page


@pytest.fixture
def screenshot(root: Path, page: Any) -> Callable[[str], None]:
    """`screenshot("runs")` keeps build/screenshots/runs.png."""
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str) -> None:
        page.wait_for_timeout(300)  # charts fade in
        page.screenshot(path=folder / f"{name}.png")

    return keep


@pytest.fixture
def runs(server: str, train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """nba_scratch and nba_keras, short, by their names; both by NumPy, as the page does not show the engine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    shown = {"shown": "browser"}
    for name in ("nba_scratch", "nba_keras"):
        tags = shown | {"mlflow.runName": name}
        train("epochs=300", name=name, settings=PATIENT, tags=tags)
    found = {run.info.run_name: run for run in connect(server).search("tags.shown = 'browser'")}
    assert found.keys() == {"nba_scratch", "nba_keras"}
    return found


def test_two_runs_are_found_and_compared(
    server: str, runs: dict[str, Any], page: Any, screenshot: Callable[[str], None]
) -> None:
    page.goto(server)
    page.get_by_role("link", name="nba", exact=True).first.click()
    page.get_by_text("Networks trained on the data set nba").first.wait_for()
    page.get_by_role("heading", name="Runs").wait_for()  # model training; the GenAI view says otherwise
    page.get_by_role("columnheader", name="valid/loss").first.wait_for()
    for name in runs:
        page.get_by_role("link", name=name, exact=True).first.wait_for()
    screenshot("runs")

    experiment = runs["nba_scratch"].info.experiment_id
    shown = quote("tags.shown = 'browser'")
    page.goto(f"{server}/#/experiments/{experiment}/runs?compareRunsMode=CHART&searchFilter={shown}")
    page.wait_for_function(TWO_CURVES)
    screenshot("curves")

    ids, experiments = ([run.info.run_id for run in runs.values()], [experiment])
    page.goto(f"{server}/#/compare-runs?runs={quote(json.dumps(ids))}&experiments={quote(json.dumps(experiments))}")
    page.get_by_role("heading", name="Comparing 2 Runs").wait_for()
    for name in runs:
        page.get_by_text(name).first.wait_for()
    screenshot("compare")

    page.goto(f"{server}/#/experiments/{experiment}/runs/{runs['nba_scratch'].info.run_id}")
    page.get_by_role("heading", name="nba_scratch").wait_for()
    page.get_by_text("Result.").wait_for()
    screenshot("run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("figures", exact=True).click()
    page.get_by_text("learning_curves.png", exact=True).click()
    page.wait_for_function("[...document.images].some(image => image.src.startsWith('blob:') && image.naturalWidth)")
    screenshot("figure")


@pytest.mark.exhaustive  # whole trainings on the real data
@pytest.mark.real_data
def test_the_picture_in_the_readme(
    project: Path,
    mirror: Path,
    root: Path,
    compose: Callable[..., Experiment],
    page: Any,
    screenshot: Callable[[str], None],
) -> None:
    """build/screenshots/mlflow_ui.png, which docs/images/ has a copy of: the twins, and a larger learning rate."""
    shutil.rmtree(project / "data")
    dataset = config.dataset(config.compose(root, "config", ["datasets.nba.source=real"]).datasets.nba)
    download_dataset(dataset, project)
    preprocess_dataset(dataset, project)
    for name, colour, experiment, *overrides in (
        ("learning_rate=0.01", GREEN, "nba_scratch", "optimizer.learning_rate=0.01"),
        ("nba_keras", ORANGE, "nba_keras"),
        ("nba_scratch", BLUE, "nba_scratch"),
    ):
        tags = {"mlflow.runName": name, "mlflow.runColor": colour}
        live = tracker(PATIENT, root=project, tags=tags)
        training.train(
            compose(experiment, *overrides), project / "runs" / name, root=project, tracker=live, overrides=overrides
        )
    with serving(project, ["twinnet.tracking", "ui"]) as server:
        (experiment_id,) = {run.info.experiment_id for run in connect(server).search("")}
        page.set_viewport_size({"width": 1400, "height": 1000})
        page.goto(f"{server}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART")
        page.get_by_placeholder("Search metric charts").fill("^(train|valid)/")  # final scores are single points
        page.wait_for_function(TWO_CURVES)
        page.wait_for_timeout(2000)  # the charts that were found move up
        screenshot("mlflow_ui")
