"""Small real trainings, a store that is migrated already, a tracking server, and a wire to it that can break."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.processed import write_players
from tests.servers import serving
from twinnet.core.history import History
from twinnet.core.schema import Experiment, Tracking
from twinnet.tracking.live import tracker
from twinnet.training import experiment as training
from twinnet.training.experiment import Tracker
from twinnet.training.run import Run

Train = Callable[..., Run]


@pytest.fixture
def project(tiny_project: Path, migrated: Path) -> Path:
    """A checkout with data to train on and a store without runs."""
    shutil.copy(migrated, tiny_project / "mlflow.db")
    return tiny_project


class Interfering:
    """A tracker that calls `at(history)` after each chunk, where a test makes things go wrong."""

    def __init__(self, tracker: Tracker, at: Callable[[History], None]) -> None:
        self.started, self.finished, self.failed = tracker.started, tracker.finished, tracker.failed
        self.tracker, self.at = tracker, at

    def progressed(self, history: History) -> None:
        self.tracker.progressed(history)
        self.at(history)


@pytest.fixture
def train(project: Path, compose: Callable[..., Experiment]) -> Train:
    """`train("epochs=50", name="nba_scratch", at=...)`: a real training in `project`, tracked; returns its Run."""
    return _train_in(project, compose)


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, migrated: Path, compose: Callable[..., Experiment]) -> Run:
    """A tracked run of 2,500 epochs in a checkout of its own, for tests that read alone."""
    root = tmp_path_factory.mktemp("tracked")
    write_players(root)
    shutil.copy(migrated, root / "mlflow.db")
    return _train_in(root, compose)("epochs=2500", "seed=7", tags={"sweep": "first"})


def _train_in(project: Path, compose: Callable[..., Experiment]) -> Train:

    def trained(
        *overrides: str,
        name: str = "nba_scratch",
        directory: Path | None = None,
        settings: Tracking | None = None,
        at: Callable[[History], None] | None = None,
        **more: object,
    ) -> Run:
        experiment = compose(name, "engine=scratch_numpy", "epochs=30", *overrides)
        live = tracker(settings or Tracking(), root=project, **more)
        watched = Interfering(live, at) if at and live else live
        place = directory or project / "runs" / name
        return training.train(experiment, place, root=project, tracker=watched, overrides=overrides, draw=_draw)

    return trained


def _draw(run: Run) -> None:
    (run.directory / "figures").mkdir()
    Image.new("RGB", (80, 60)).save(run.directory / "figures" / "learning_curves.png")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[str]:
    """The address of `make ui`, on a SQLite store without runs: MLflow's interface is its server too."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated, folder / "mlflow.db")
    with serving(folder, ["twinnet.tracking", "ui"]) as address:
        yield address


class Wire:
    """A TCP relay to a server that can be cut: `refuse` drops connections, `hang` takes them and never answers."""

    def __init__(self, target: int) -> None:
        self.target, self.state = target, "pass"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def break_as(self, state: str) -> None:
        self.state = state
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.break_as("refuse")
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.open.append(client)
                if self.state == "refuse":
                    client.close()
                elif self.state == "pass":
                    upstream = socket.create_connection(("127.0.0.1", self.target))
                    self.open.append(upstream)
                    for ends in ((client, upstream), (upstream, client)):
                        threading.Thread(target=self._relay, args=ends, daemon=True).start()

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.close()


@pytest.fixture
def wire(server: str) -> Iterator[Wire]:
    """A wire to the server; `http://127.0.0.1:{wire.port}` is the server seen through it."""
    relay = Wire(int(server.rpartition(":")[2]))
    yield relay
    relay.close()
