"""Followers forked from a process of the test session that has imported MLflow, which takes each of them 2 s."""

import multiprocessing
import os
from pathlib import Path

from twinnet.core.schema import Tracking
from twinnet.tracking.live import LiveRuns
from twinnet.tracking.store import client_environment

IMPORTED = [
    "mlflow.pyfunc.model",
    "mlflow.store.tracking.sqlalchemy_store",
    "twinnet.tracking.follow",
    "twinnet.tracking.log_run",
]
FORKS = multiprocessing.get_context("forkserver")  # a process without threads


class ForkedFollower:
    """What `LiveRuns.start_follower` starts, without the start of its interpreter."""

    def __init__(self, root: Path, settings: Tracking) -> None:
        FORKS.set_forkserver_preload(IMPORTED)
        environment = dict(os.environ) | client_environment(settings)
        self.process = FORKS.Process(target=follow, args=(root, environment), daemon=True)
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode


def follow(root: Path, environment: dict[str, str]) -> None:
    """Follow as `python -m twinnet.tracking.follow` does: in a session of its own, silent."""
    from twinnet.tracking import follow

    os.setsid()
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    follow.main(root)


def start_follower(self: LiveRuns, settings: Tracking) -> None:
    """`LiveRuns.start_follower` with a ForkedFollower."""
    if not self.has_follower():
        self.started = ForkedFollower(self.root, settings)  # type: ignore[assignment]
