"""One job of a sweep, in whatever process and on whatever machine the launcher runs it.

Imported before anything that starts threads: NumPy, TensorFlow and JAX are loaded when a job trains.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from twinnet.core.errors import TwinnetError
from twinnet.core.schema import Experiment, Tracking
from twinnet.sweeps import cache, expand, launchers
from twinnet.sweeps import job as outcomes
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """What each job of a sweep is told by the process that leads it."""

    root: Path
    folder: Path  # of the sweep
    tags: dict[str, str]  # of the job's MLflow run
    parent: str | None  # the sweep's MLflow run
    resume: bool
    fail_fast: bool
    threads: int | None
    swept: tuple[str, ...]
    wait: bool = False  # for another process that trains the same result; else the job is left for later

    @property
    def outcomes(self) -> Path:
        return self.folder / "outcomes"

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    def started(self, key: str) -> Path:
        return self.folder / "started" / key


def run(composed: DictConfig, *, assignment: Assignment) -> Outcome:
    """Train the job, or find that it is trained; whatever goes wrong with it is its outcome, not an exception."""
    launchers.limit_threads(assignment.threads)
    hydra_config = HydraConfig.get()
    place = Path(hydra_config.runtime.output_dir)
    overrides = tuple(hydra_config.overrides.task)
    key = ""
    try:
        os.chdir(assignment.root)
        job = expand.job(composed, overrides, swept(overrides, assignment.swept), assignment.root)
        key = job.key
        with _own_log(place):
            return one(job, assignment, expand.settings(composed, "tracking"), place)
    except Exception as error:
        log.exception("the job failed outside its training")
        return Outcome(key, outcomes.FAILED, reason=told(error), log=str(place))


def one(job: Job, assignment: Assignment, tracking_settings: Tracking, place: Path) -> Outcome:
    """The job's outcome, which is left in the sweep's folder too, but for that of a job that is looked at later."""
    if assignment.fail_fast and assignment.stop.exists():
        stopped = Outcome(job.key, outcomes.STOPPED, reason="another job failed, and fail_fast=true", log=str(place))
        return outcomes.write(stopped, assignment.outcomes)
    marker = assignment.started(job.key)
    marker.parent.mkdir(parents=True, exist_ok=True)
    lock = cache.lock(job.key, assignment.root)
    try:
        lock.acquire(timeout=-1 if assignment.wait else 0)
    except Timeout:
        return Outcome(job.key, outcomes.BUSY, log=str(place))
    try:
        marker.touch()
        # A cluster that lost a node is handed the open jobs again, and may still have them.
        outcome = outcomes.done(job.key, assignment.outcomes)
        if outcome is None:
            outcome = _found(job, assignment, place) or _train(job, assignment, tracking_settings, place)
            outcomes.write(outcome, assignment.outcomes)
    finally:
        lock.release()
    if outcome.status == outcomes.FAILED and assignment.fail_fast:
        assignment.stop.touch()
    return outcome


def swept(overrides: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, str]:
    """Swept key -> value of this job, in the order of the sweep."""
    values = dict(override.lstrip("+~").split("=", 1) for override in overrides)
    return {key: values[key] for key in keys if key in values}


def _found(job: Job, assignment: Assignment, place: Path) -> Outcome | None:
    metrics = cache.find(job.key, assignment.root) if assignment.resume else None
    if metrics is None:
        return None
    directory = cache.directory(job.key, assignment.root)
    log.info("%s is trained already: %s; resume=false trains it again", job.label, directory)
    return Outcome(job.key, outcomes.REUSED, metrics, str(directory), log=str(place))


def _train(job: Job, assignment: Assignment, tracking_settings: Tracking, place: Path) -> Outcome:
    from twinnet.sweeps import batched
    from twinnet.tracking import live
    from twinnet.training import experiment as training  # after the threads are settled

    directory = cache.directory(job.key, assignment.root)
    experiment = limited(job.experiment, assignment.threads)
    try:
        tracker = live.tracker(tracking_settings, parent=assignment.parent, tags=tags(job, assignment))
        fit = batched.handed(job.key, assignment)
        run = training.train(
            experiment, directory, root=assignment.root, tracker=tracker, overrides=job.overrides, fit=fit
        )
    except Exception as error:
        if not isinstance(error, TwinnetError):
            log.exception("the training failed")
        return Outcome(job.key, outcomes.FAILED, reason=told(error), log=str(place))
    return Outcome(job.key, outcomes.FINISHED, dict(run.metrics), str(directory), log=str(place))


def tags(job: Job, assignment: Assignment) -> dict[str, str]:
    """Of the job's MLflow run, which is named by its swept values."""
    return assignment.tags | {"twinnet.key": job.key, "mlflow.runName": job.label}


def limited(experiment: Experiment, threads: int | None) -> Experiment:
    """The experiment with no more engine threads than the job may use."""
    wanted = experiment.engine.threads
    if threads is None or wanted is None or wanted <= threads:
        return experiment
    return replace(experiment, engine=replace(experiment.engine, threads=threads))


def told(error: BaseException) -> str:
    """The error in one line."""
    message = " ".join(str(error).split())
    return message if isinstance(error, TwinnetError) else f"{type(error).__name__}: {message}"


@contextlib.contextmanager
def _own_log(place: Path) -> Iterator[None]:
    """The job's log and its progress go to its own folder; the terminal belongs to the sweep."""
    root = logging.getLogger()
    consoles = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in consoles:
        root.removeHandler(handler)
    try:
        with (place / "stderr.txt").open("a") as file, contextlib.redirect_stderr(file):
            yield
    finally:
        for handler in consoles:
            root.addHandler(handler)
