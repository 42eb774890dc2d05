"""What every test may use: the repository's root, composed experiments, a small project of synthetic data."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.followers import start_follower
from tests.processed import write_players
from twinnet.core import config
from twinnet.core.garbage import collect_rarely
from twinnet.core.schema import Experiment
from twinnet.tracking.live import LiveRuns
from twinnet.tracking.store import connect

ROOT = Path(__file__).parents[1]

# Hermetic: what the surroundings set for real runs must not reach a test.
for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell began the tests in its background; commands inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that a test starts compiles what it imports
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

collect_rarely()

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


@pytest.fixture(autouse=True)
def _forked_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the followers of trainings in this process; those of commands start as they do for users."""
    monkeypatch.setattr(LiveRuns, "start_follower", start_follower)


@pytest.fixture
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but their files left empty, which is ten times as fast; test_figures.py looks at them."""

    def touch(figure: object, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    for module in ("figures.run", "sweeps.figures", "compare.write"):
        monkeypatch.setattr(f"twinnet.{module}.save", touch)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def compose(root: Path) -> Callable[..., Experiment]:
    """`compose("nba_scratch", "epochs=10")`: an experiment of conf/ with Hydra overrides."""

    @cache
    def node(name: str, *overrides: str) -> DictConfig:
        return config.compose(root, "train", [f"experiment={name}", *overrides])

    return lambda name, *overrides: config.experiment(node(name, *overrides))


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
