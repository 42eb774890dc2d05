"""A training tracked by `make server`, on a PostgreSQL cluster of the test's own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.postgres import PASSWORD, cluster
from tests.servers import serving
from twinnet.core.schema import Tracking
from twinnet.tracking.publish import publish
from twinnet.tracking.store import client_environment, connect, with_driver
from twinnet.training.run import Run

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("postgres")]


@pytest.fixture
def database() -> Iterator[str]:
    with cluster() as address:
        yield address


def test_a_training_tracked_on_postgresql(
    database: str,
    train: Callable[..., Run],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = project / "server"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", database)
    with serving(folder, ["twinnet.tracking", "server"]) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        patient = Tracking(patience_seconds=120, timeout_seconds=60)
        run = train(settings=patient)
        (found,) = connect(server).search("")
        assert found.info.status == "FINISHED"
        assert found.data.tags["twinnet.result"] == run.content_hash
        assert len(connect(server).client.get_metric_history(found.info.run_id, "valid/loss")) == 30
        assert publish(project / "runs", patient, root=project).present == ("nba_scratch",)
        assert {path.name for path in (folder / "mlartifacts").rglob("*.png")} == {
            path.name for path in (run.directory / "figures").iterdir()
        }
    assert PASSWORD not in caplog.text
    assert PASSWORD not in (folder / "server.log").read_text()


def test_silent_database_is_reported_in_one_line(root: Path) -> None:
    address = f"postgresql://tester:{PASSWORD}@127.0.0.1:9/postgres"
    ran = subprocess.run(
        [sys.executable, "-m", "twinnet.tracking", "server"],
        cwd=root,
        env={**os.environ, "MLFLOW_BACKEND_STORE_URI": address, "DVC_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: expected a database at postgresql+psycopg2://***@127.0.0.1:9/postgres; ")
    assert "Connection refused" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert PASSWORD not in ran.stderr


def test_locks_of_a_machine_lost_in_a_transaction_are_freed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that loses its power; the server learns nothing of that for two hours otherwise."""
    monkeypatch.setenv("PGOPTIONS", client_environment(Tracking(), {})["PGOPTIONS"])
    with create_engine(with_driver(database)).connect() as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"
