"""The result of a command, and the runs that it left in the store."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from twinnet.tracking import sweeps
from twinnet.tracking.store import Store, connect


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
        """How many lines tell of jobs that finished, were reused, failed."""
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
