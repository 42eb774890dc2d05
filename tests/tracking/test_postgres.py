"""A training tracked by `make server`, on a PostgreSQL cluster of the test's own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from twinnet import records, tracking
from twinnet.config.schema import Tracking
from twinnet.tracking.store import connect
from twinnet.training import Run

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("postgres")]
PASSWORD = "a-pass-word-of-the-database"


def programs() -> Path:
    """The folder of PostgreSQL's programs, of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


@contextmanager
def cluster(port: int) -> Iterator[str]:
    """A private cluster; yields the address of its database. As root it runs as `nobody`: PostgreSQL refuses root."""
    binaries = programs()
    folder = Path(tempfile.mkdtemp(prefix="twinnet-postgres-", dir="/tmp"))
    other = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    (folder / "password").write_text(PASSWORD)
    if other:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody")

    def run(*command: str) -> None:
        ran = subprocess.run([*other, *command], cwd=folder, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    data = str(folder / "data")
    try:
        run(
            str(binaries / "initdb"), "-D", data, "-U", "tester", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
            "--locale=C", f"--pwfile={folder / 'password'}",
        )  # fmt: skip
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*other, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(free_port: Callable[[], int]) -> Iterator[str]:
    with cluster(free_port()) as address:
        yield address


def test_a_training_tracked_on_postgresql(
    database: str,
    serving: Callable[..., AbstractContextManager[str]],
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
        assert found.data.tags["twinnet.result"] == records.result(run.directory)
        assert len(connect(server).client.get_metric_history(found.info.run_id, "valid/loss")) == 30
        assert tracking.publish(project / "runs", patient, root=project).present == ("nba_scratch",)
        assert {path.name for path in (folder / "mlartifacts").rglob("*.png")} == {
            path.name for path in (run.directory / "figures").iterdir()
        }
    assert PASSWORD not in caplog.text
    assert PASSWORD not in (folder / "server.log").read_text()


def test_a_database_that_does_not_answer_is_told_in_one_line(root: Path) -> None:
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
