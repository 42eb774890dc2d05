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
