"""What a sweep told, and what it left in the store."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from twinnet.tracking import sweeps
from twinnet.tracking.store import Store, connect


@dataclass
class Told:
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


Sweep = Callable[..., Told]


def store(lab: Path) -> Store:
    return connect(f"sqlite:///{lab}/mlflow.db")


def runs(lab: Path) -> tuple[list[Run], list[Run]]:
    """The parents and the children in the store."""
    found = list(store(lab).search(""))
    children = [run for run in found if sweeps.KEY in run.data.tags]
    return [run for run in found if run not in children], children
