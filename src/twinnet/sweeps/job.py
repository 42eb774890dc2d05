"""How a job of a sweep ended, as it is handed from the process that trained to the one that leads the sweep."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FINISHED = "finished"
REUSED = "reused"  # an earlier run had trained it
FAILED = "failed"
BUSY = "busy"  # another process is training it
STOPPED = "stopped"  # not begun, because another job failed and fail_fast was asked for
DONE = (FINISHED, REUSED)


@dataclass(frozen=True)
class Outcome:
    key: str  # the result key
    status: str
    metrics: dict[str, Any] = field(default_factory=dict)
    directory: str = ""  # of the run; empty where it lies on another machine
    reason: str = ""  # in one line, where it failed
    log: str = ""  # the folder of the job's log


def write(outcome: Outcome, folder: Path) -> Outcome:
    """Leave the outcome in the sweep's folder, whole or not at all, for the leader to see while the launcher waits."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{outcome.key}.{os.getpid()}"
    partial.write_text(json.dumps(asdict(outcome)))
    os.replace(partial, folder / f"{outcome.key}.json")
    return outcome


def read(folder: Path) -> dict[str, Outcome]:
    """Result key -> outcome, of the jobs that have ended."""
    return {file.stem: _read(file) for file in sorted(folder.glob("*.json"))}


def done(key: str, folder: Path) -> Outcome | None:
    """The outcome of the job, where it has ended well."""
    file = folder / f"{key}.json"
    outcome = _read(file) if file.exists() else None
    return outcome if outcome and outcome.status in DONE else None


def _read(file: Path) -> Outcome:
    return Outcome(**json.loads(file.read_text()))
