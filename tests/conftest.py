"""What every test may use: the repository's root, composed experiments, a small project of synthetic data."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.followers import start_follower
from tests.processed import write_players
from twinnet.core import config
from twinnet.core.garbage import collect_rarely
from twinnet.core.schema import Experiment
from twinnet.sweeps.expand import Composer, parse
from twinnet.tracking.live import LiveRuns
from twinnet.tracking.store import connect

ROOT = Path(__file__).parents[1]

# Hermetic: what the surroundings set for real runs, and what git and make set, must not reach a test or its commands.
OWN = ("TWINNET_MIRROR", "TWINNET_SNAPSHOT", "TWINNET_GOLDEN")  # real data for the tests that are marked so
for name in set(os.environ) - set(OWN):
    if name.startswith(("DVC_", "GIT_", "HYDRA_", "JAX_PLATFORMS", "KERAS_", "MAKE", "MLFLOW_", "TWINNET_")):
        del os.environ[name]
os.environ |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}  # servers of the tests
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell began the tests in its background; commands inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that a test starts compiles what it imports
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

collect_rarely()
LiveRuns.start_follower = start_follower  # type: ignore[method-assign]  # forked; those of commands start as for users

# One folder for all workers, which inherit the variable, and for the processes that tests start.
SHARED = Path(os.environ.get("TESTS_SHARED") or tempfile.mkdtemp(prefix="twinnet-tests-"))
os.environ |= {
    "TESTS_SHARED": str(SHARED),
    "JAX_COMPILATION_CACHE_DIR": str(SHARED / "jax"),  # each program is compiled once
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(SHARED, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Take back what MLflow leaves for child processes: MLFLOW_TRACKING_URI."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but their files left empty, which is ten times as fast; test_figures.py looks at them."""

    def touch(figure: object, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    for module in ("figures.style", "sweeps.figures"):
        monkeypatch.setattr(f"twinnet.{module}.save", touch)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def compose(root: Path) -> Callable[..., Experiment]:
    """`compose("nba_scratch", "epochs=10")`: an experiment of conf/ with overrides, composed as a job of a sweep is."""
    composer = Composer(root)
    return lambda name, *overrides: config.experiment(composer(parse([f"experiment={name}", *overrides])))


@pytest.fixture(scope="session")
def compose_suite(root: Path) -> Callable[..., DictConfig]:
    """`compose_suite("profile=smoke")`: conf/config.yaml with overrides, in a few milliseconds but for the first."""
    composer = Composer(root, "config")
    return lambda *overrides: composer(parse(overrides))


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data that TWINNET_MIRROR names; tests that use it are marked real_data."""
    folder = os.environ.get("TWINNET_MIRROR", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs TWINNET_MIRROR, a folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def migrated() -> Path:
    """An empty store, made by the first worker that needs one: a migration takes seconds."""
    file = SHARED / "mlflow.db"
    connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def tiny_project(tmp_path: Path) -> Path:
    """A project root with a small processed table of separable players, as `preprocess` would leave it."""
    write_players(tmp_path)
    return tmp_path
