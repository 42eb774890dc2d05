"""A tracking server that refuses, hangs or dies costs no training, and nothing of it is lost."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processed import write_bytes
from twinnet.core.schema import Tracking
from twinnet.tracking.publish import publish
from twinnet.tracking.store import connect
from twinnet.training.run import Run

pytestmark = pytest.mark.xdist_group("server")
PASSWORD = "hunter22-secret"
LIVE = Tracking(live_seconds=0.0, timeout_seconds=60, patience_seconds=120.0)  # a busy machine answers late
QUICK = Tracking(live_seconds=0.0, timeout_seconds=2, patience_seconds=60.0)


@pytest.fixture
def address(wire: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server through the wire, with credentials, as MLFLOW_TRACKING_URI."""
    address = f"http://user:{PASSWORD}@127.0.0.1:{wire.port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


def runs_of(server: str, run: Run) -> Counter[str]:
    """How many runs of this training the server has, by status (each training has a data digest of its own)."""
    digest = run.info.data["digest"]
    return Counter(found.info.status for found in connect(server).search(f"tags.`dvc.data` = 'sha256:{digest}'"))


@pytest.fixture
def train(train: Callable[..., Run], project: Path) -> Callable[..., Run]:
    """Training on a table that no other test has, so that a search finds its runs alone."""
    table = project / "data" / "processed" / "nba" / "table.csv"
    row = f"2019,0.1,0.1,{time.time_ns()},1\n"
    write_bytes(project, "nba", table.name, table.read_bytes() + row.encode())
    return train


def test_server_gets_the_whole_run(train: Callable[..., Run], address: str, server: str, project: Path) -> None:
    run = train(settings=LIVE)
    assert runs_of(server, run) == {"FINISHED": 1}
    assert publish(project / "runs", LIVE, root=project).present == ("nba_scratch",)
    client = connect(server).client
    digest = run.info.data["digest"]
    (found,) = connect(server).search(f"tags.`dvc.data` = 'sha256:{digest}'")
    assert [file.path for file in client.list_artifacts(found.info.run_id, "figures")]
    assert client.get_logged_model(found.outputs.model_outputs[0].model_id).status == "READY"


@pytest.mark.parametrize("state", ["refuse", "hang"])
def test_silent_server_costs_a_training_little(
    train: Callable[..., Run], address: str, wire: Any, project: Path, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    train(settings=QUICK, directory=project / "warm")  # imports what both load, MLflow in the worker too
    caplog.clear()
    wire.break_as(state)
    begun = time.monotonic()
    run = train(settings=QUICK, directory=project / "runs" / "lost")
    assert time.monotonic() - begun < 60  # a few seconds on a machine that is not busy
    assert Run.read(run.directory).metrics == run.metrics
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("twinnet.tracking")]
    assert len(lines) <= 2, lines
    assert "publish" in lines[-1]
    assert PASSWORD not in caplog.text


def test_dying_server_costs_nothing_and_gets_the_run_later(
    train: Callable[..., Run],
    address: str,
    wire: Any,
    server: str,
    project: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    epochs: list[int] = []

    def at(history: Any) -> None:
        epochs.append(history.epochs)
        if history.epochs == 10:
            _await_run(server, project)
            wire.break_as("refuse")

    run = train(at=at, settings=LIVE)
    assert epochs == list(range(1, 31))
    assert runs_of(server, run) == {"RUNNING": 1}
    with caplog.at_level(logging.INFO):
        assert publish(project / "runs", LIVE, root=project).unsent == ("nba_scratch",)
        wire.state = "pass"
        assert publish(project / "runs", LIVE, root=project).sent == ("nba_scratch",)
    assert runs_of(server, run)["FINISHED"] == 1
    assert publish(project / "runs", LIVE, root=project).present == ("nba_scratch",)
    assert runs_of(server, run)["FINISHED"] == 1
    assert PASSWORD not in caplog.text
    _no_secret_on_disk(project)


def test_server_back_before_the_end_gets_the_whole_run(
    train: Callable[..., Run], address: str, wire: Any, server: str, project: Path
) -> None:
    wire.state = "refuse"

    def at(history: Any) -> None:
        if history.epochs == 30:
            wire.state = "pass"

    run = train(at=at, settings=LIVE)
    assert runs_of(server, run) == {"FINISHED": 1}
    client = connect(server).client
    digest = run.info.data["digest"]
    (found,) = connect(server).search(f"tags.`dvc.data` = 'sha256:{digest}'")
    assert len(client.get_metric_history(found.info.run_id, "valid/loss")) == 30
    assert not [tag for tag, value in found.data.tags.items() if PASSWORD in value]


def _await_run(server: str, project: Path) -> None:
    from twinnet.core.provenance import sha256

    digest = sha256(project / "data" / "processed" / "nba" / "table.csv")
    until = time.monotonic() + 300
    while time.monotonic() < until:
        for _ in connect(server).search(f"tags.`dvc.data` = 'sha256:{digest}'"):
            return
        time.sleep(0.1)
    pytest.fail("the run did not appear on the server while it trained")


def _no_secret_on_disk(project: Path) -> None:
    for path in project.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
