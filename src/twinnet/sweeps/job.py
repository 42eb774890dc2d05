"""A job of a sweep: its configuration, what the sweep passes to it, and its result."""

import json
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from twinnet.core import paths
from twinnet.core.schema import Experiment, Tracking
from twinnet.tracking.description import SWEEP_KEYS
from twinnet.tracking.sweeps import KEY


class Status(StrEnum):
    finished = "finished"
    reused = "reused"  # trained by an earlier run
    failed = "failed"
    pruned = "pruned"  # a trial of a search that was worse than others
    busy = "busy"  # another process trains it now
    stopped = "stopped"  # not started: another job failed, and fail_fast=true
    missing = "not run"


DONE = (Status.finished, Status.reused)


@dataclass(frozen=True)
class Job:
    """One configuration of a sweep; `key` is its fingerprint, under which `cache` finds its result."""

    overrides: tuple[str, ...]  # Hydra's
    swept: dict[str, str]  # swept key -> value, as written
    experiment: Experiment  # as it is trained alone
    key: str
    is_batched: bool = False  # trained with others of its shape

    @property
    def label(self) -> str:
        """`seed=3 optimizer.learning_rate=0.1`; the experiment's name if nothing is swept."""
        return " ".join(f"{key}={value}" for key, value in self.swept.items()) or self.experiment.name

    @property
    def rerun_command(self) -> str:
        """The command that trains this job alone."""
        words = [word for word in self.overrides if not word.lstrip("+~").startswith(SWEEP_KEYS)]
        return f"python -m twinnet.train {shlex.join(words)}"

    def tags(self, sweep: dict[str, str]) -> dict[str, str]:
        """Return the tags of the job's MLflow run, which is named by the swept values unless `sweep` names it."""
        return {KEY: self.key, "mlflow.runName": self.label} | sweep


@dataclass(frozen=True)
class SweepContext:
    """What the sweep passes to each job."""

    root: Path
    folder: Path  # of the sweep
    tracking: Tracking
    tags: dict[str, str]  # of the jobs' MLflow runs
    parent: str | None  # id of the sweep's MLflow run
    resume: bool
    fail_fast: bool
    threads: int | None
    swept: tuple[str, ...]
    figures: bool = False  # draw each run
    wait: bool = False  # for another process that trains the same result; else the job is busy

    @property
    def state(self) -> Path:
        """The files of this sweep that mean nothing to the next one in the same folder."""
        return self.folder / "state"

    @property
    def results(self) -> Path:
        return self.state / "results"

    @property
    def stop(self) -> Path:
        return self.state / "stop"

    def start_marker(self, key: str) -> Path:
        return self.state / "started" / key

    def stop_after_failure(self) -> None:
        """Let no further job start if fail_fast=true."""
        if self.fail_fast:
            self.state.mkdir(parents=True, exist_ok=True)
            self.stop.touch()


@dataclass(frozen=True)
class JobResult:
    key: str  # of the job
    status: Status
    metrics: dict[str, Any] = field(default_factory=dict)
    directory: str = ""  # of the run; empty if it lies on another machine
    run_id: str = ""  # in the store, if the result was found there
    reason: str = ""  # of a failure, in one line
    log: str = ""  # the folder of the job's log

    @property
    def is_done(self) -> bool:
        return self.status in DONE


def write_result(result: JobResult, folder: Path) -> JobResult:
    """Write the result to the sweep's folder, where the leading process sees it while the launcher waits."""
    paths.write_text(folder / f"{result.key}.json", json.dumps(asdict(result)))
    return result


def read_results(folder: Path, pattern: str = "*", known: Collection[str] = ()) -> dict[str, JobResult]:
    """Return key -> result of the jobs that have ended, except those in `known`."""
    results = {}
    for file in sorted(folder.glob(f"{pattern}.json")):
        if file.stem not in known:
            values = json.loads(file.read_text("utf-8"))
            results[file.stem] = JobResult(**values | {"status": Status(values["status"])})
    return results
