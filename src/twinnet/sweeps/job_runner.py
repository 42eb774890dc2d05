"""One job of a sweep, in whatever process and on whatever machine the launcher runs it."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from twinnet.core.errors import PrunedError, TwinnetError, one_line_text
from twinnet.core.garbage import collect_rarely
from twinnet.core.schema import Experiment
from twinnet.sweeps import batched, cache, expand, launchers
from twinnet.sweeps.job import Job, JobResult, Status, SweepContext, read_results, write_result
from twinnet.tracking import live
from twinnet.training import experiment as training
from twinnet.training.experiment import Tracker
from twinnet.training.run import Run

log = logging.getLogger(__name__)

Track = Callable[[Tracker | None], Tracker | None]


def run_job(composed: DictConfig, *, context: SweepContext) -> JobResult:
    """Train the job, or find its result; an error of the job is its result, not an exception."""
    collect_rarely()
    launchers.limit_threads(context.threads)
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    overrides = tuple(hydra_config.overrides.task)
    key = ""
    try:
        os.chdir(context.root)
        job = expand.build_job(composed, overrides, _swept_values(overrides, context.swept), context.root)
        key = job.key
        with _log_to(folder):
            return run_job_locked(job, context, folder)
    except Exception as error:
        log.exception("the job failed outside its training")
        context.stop_after_failure()
        return JobResult(key, Status.failed, reason=one_line_text(error), log=str(folder))


def run_job_locked(job: Job, context: SweepContext, folder: Path, track: Track = lambda tracker: tracker) -> JobResult:
    """Return the job's result, which is also written to the sweep's folder, unless the job is busy (retried later).

    `folder` is that of the job's log; `track` may wrap the tracker of the training.
    """
    if context.fail_fast and context.stop.exists():
        reason = "another job failed, and fail_fast=true"
        return write_result(JobResult(job.key, Status.stopped, reason=reason, log=str(folder)), context.results)
    lock = cache.lock(job.key, context.root)
    try:
        lock.acquire(timeout=-1 if context.wait else 0)
    except Timeout:
        return JobResult(job.key, Status.busy, log=str(folder))
    try:
        marker = context.start_marker(job.key)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        # A cluster that lost a node starts its jobs again, and may still run them.
        result = read_results(context.results, job.key).get(job.key)
        if result is None or not result.is_done:
            result = _cached(job, context, folder) or _train(job, context, folder, track)
            write_result(result, context.results)
    finally:
        lock.release()
    if result.status is Status.failed:
        context.stop_after_failure()
    return result


def _swept_values(overrides: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, str]:
    """Return swept key -> value of this job, in the order of the sweep."""
    values = dict(override.lstrip("+~").split("=", 1) for override in overrides)
    return {key: values[key] for key in keys if key in values}


def _cached(job: Job, context: SweepContext, folder: Path) -> JobResult | None:
    result = cache.find(job.key, context.root) if context.resume else None
    if result:
        log.info("%s is trained already: %s; resume=false trains it again", job.label, result.directory)
        return replace(result, log=str(folder))
    return None


def _train(job: Job, context: SweepContext, folder: Path, track: Track) -> JobResult:
    directory, tags = cache.directory(job.key, context.root), job.tags(context.tags)
    try:
        tracker = live.tracker(context.tracking, parent=context.parent, tags=tags, root=context.root, waits=False)
        run = training.train(
            cap_threads(job.experiment, context.threads),
            directory,
            root=context.root,
            tracker=track(tracker),
            overrides=job.overrides,
            fit=batched.batched_fit(job.key, context),
            draw=_drawing(context),
        )
    except PrunedError as error:
        return JobResult(job.key, Status.pruned, reason=str(error), log=str(folder))
    except Exception as error:
        if not isinstance(error, TwinnetError):
            log.exception("the training failed")
        return JobResult(job.key, Status.failed, reason=one_line_text(error), log=str(folder))
    return JobResult(job.key, Status.finished, dict(run.metrics), str(directory), log=str(folder))


def _drawing(context: SweepContext) -> Callable[[Run], object] | None:
    if not context.figures:
        return None
    from twinnet.compare.draw import draw_run  # 0.5 s: matplotlib

    return partial(draw_run, root=context.root)


def cap_threads(experiment: Experiment, threads: int | None) -> Experiment:
    """Return the experiment with no more engine threads than the job may use."""
    wanted = experiment.engine.threads
    if threads is None or wanted is None or wanted <= threads:
        return experiment
    return replace(experiment, engine=replace(experiment.engine, threads=threads))


@contextlib.contextmanager
def _log_to(folder: Path) -> Iterator[None]:
    """Write the job's log and progress to its own folder; the terminal belongs to the sweep."""
    root = logging.getLogger()
    consoles = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in consoles:
        root.removeHandler(handler)
    try:
        with (folder / "stderr.txt").open("a", encoding="utf-8") as file, contextlib.redirect_stderr(file):
            yield
    finally:
        for handler in consoles:
            root.addHandler(handler)
