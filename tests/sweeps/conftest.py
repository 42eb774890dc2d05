"""A small checkout that can be swept, and sweeps in this process and in processes of their own."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from tests.sweeps.commands import SMALL, CommandResult, Sweep
from twinnet import search, train


@pytest.fixture
def sweep_project(tiny_project: Path, migrated: Path, root: Path) -> Path:
    """A checkout with the configuration of this one, data to train on, and a store without runs."""
    shutil.copytree(root / "conf", tiny_project / "conf", dirs_exist_ok=True)
    shutil.copy(migrated, tiny_project / "mlflow.db")
    return tiny_project


@pytest.fixture
def run_main(
    sweep_project: Path, empty_pictures: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Sweep]:
    """`run_main(train.main, "-m", "seed=1,2")`: the program in this process and in the small checkout."""
    environment, handlers, directory = dict(os.environ), logging.getLogger().handlers[:], Path.cwd()
    terminate = signal.getsignal(signal.SIGTERM)

    def run(main: Callable[[], None], *words: str) -> CommandResult:
        monkeypatch.chdir(sweep_project)
        monkeypatch.setattr(sys, "argv", ["twinnet", *words])
        capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        return CommandResult(status, *capfd.readouterr())

    # Hydra configures logging again, which closes all handlers; absl's closes the stderr of its import, that of pytest.
    monkeypatch.setattr(logging, "shutdown", lambda *_: None)
    with threadpool_limits(os.cpu_count()):
        yield run
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    logging.getLogger().handlers = handlers
    signal.signal(signal.SIGTERM, terminate)


@pytest.fixture
def sweep(run_main: Sweep) -> Sweep:
    """`sweep("seed=1,2", "tracking=none")`: a sweep of small trainings in this process."""
    return lambda *words: run_main(train.main, "-m", *SMALL, *words)


@pytest.fixture
def run_search(run_main: Sweep) -> Sweep:
    """`run_search("search.trials=3")`: a search of small trainings, led by this process."""
    return lambda *words: run_main(search.main, "search=nba", *SMALL, *words)


@pytest.fixture
def start(sweep_project: Path) -> Callable[..., subprocess.Popen[str]]:
    """`start("twinnet.train", "-m", "seed=1,2")`: the program in a process group of its own."""

    def started(module: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=sweep_project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        )

    return started
