"""The result of a command, and the runs that it left in the store."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from twinnet.sweeps import cache
from twinnet.tracking import sweeps
from twinnet.tracking.store import Store, connect

SMALL = ("experiment=nba_scratch", "engine=scratch_numpy", "epochs=20")


@dataclass
class CommandResult:
    status: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """Of the sweep, as its first line says."""
        return Path(self.out.splitlines()[0].rpartition("; ")[2])

    def counted(self) -> Counter[str]:
        """Return status -> the number of lines about jobs with it."""
        lines = [line.split("] ", 1)[1].split() for line in self.out.splitlines() if line.startswith("[")]
        return Counter(words[0] for words in lines)


Sweep = Callable[..., CommandResult]


def await_true(
    is_true: Callable[[], object], what: str, seconds: float = 400.0, process: subprocess.Popen[str] | None = None
) -> None:
    """Wait; fail after `seconds`, or if the process ends."""
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def store(sweep_project: Path) -> Store:
    return connect(f"sqlite:///{sweep_project}/mlflow.db")


def runs(sweep_project: Path) -> tuple[list[Run], list[Run]]:
    """The parents and the children in the store."""
    found = list(store(sweep_project).search(""))
    children = [run for run in found if sweeps.KEY in run.data.tags]
    return [run for run in found if run not in children], children


def results(project: Path) -> dict[str, int]:
    """Result key -> when its run was completed."""
    return {file.parent.name: file.stat().st_mtime_ns for file in (project / cache.RESULTS).glob("*/metrics.json")}
