"""A sweep over a grid: check every job, find what is trained, launch the rest, summarise."""

import hashlib
import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinnet.core import config
from twinnet.core.schema import Tracking
from twinnet.sweeps import batched, cache, expand, launchers
from twinnet.sweeps.dispatch import Dispatcher, Launch
from twinnet.sweeps.job import Job, JobResult, Status, read_results
from twinnet.sweeps.parent_run import ParentRun
from twinnet.sweeps.progress import Progress, duration
from twinnet.sweeps.summary import TABLE, Summary, check_objective, sweep_description, swept_values
from twinnet.tracking import sweeps
from twinnet.tracking.store import StoreError
from twinnet.training import fingerprint

log = logging.getLogger(__name__)


def run_sweep(
    root: Path,
    overrides: Sequence[str],
    folder: Path,
    *,
    launcher: str,
    launcher_settings: Mapping[str, Any],
    launch: Launch,
) -> list[JobResult]:
    """Run every job of the grid once and return the results in the order of the grid.

    Raises TwinnetError, before any job starts, for a configuration, objective or launcher that cannot work; exits with
    status 1 if a job failed and with 130 if the sweep was interrupted.
    """
    jobs, composed = expand.expand_jobs(root, overrides)
    for job in jobs:
        check_objective(composed.objective, job.experiment)
    launchers.check(launcher, launcher_settings)
    tracking = config.tracking(composed.tracking)
    results = cached(jobs, tracking, root) if composed.resume else {}
    print(f"sweep of {len(jobs)} jobs, {len(results)} of them trained already; {folder}", flush=True)
    for line in _overruled(jobs, root):
        print(line, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    parent = ParentRun(root, tracking, describe(jobs, overrides), folder, composed.objective)
    threads = launchers.threads(launcher, launcher_settings)
    context = parent.context(composed, threads, jobs[0].swept, fail_fast=composed.fail_fast, wait=False)
    shutil.rmtree(context.state, ignore_errors=True)  # of another sweep in this folder
    waiting = [job for job in jobs if job.key not in results]
    start, status = time.monotonic(), "FAILED"
    try:
        with Progress(context.results, {job.key: job for job in jobs}, composed.objective) as progress:
            for result in results.values():
                progress.report(result)
            batched.train_batched(waiting, context, progress.print_above)
            max_parallel = launchers.max_parallel(launcher, launcher_settings)
            results |= Dispatcher(launch, launcher, context, progress, max_parallel).run(waiting)
        status = "FINISHED" if all(result.is_done for result in results.values()) else "FAILED"
    except KeyboardInterrupt:
        status = "KILLED"
    finally:
        ended = read_results(context.results)
        results = {job.key: ended[job.key] for job in waiting if job.key in ended} | results
        summary = parent.end(jobs, results, status, composed.figures)
        shutil.rmtree(batched.folder(context), ignore_errors=True)
        for line in report_lines(jobs, results, summary, time.monotonic() - start, folder):
            print(line, flush=True)
    if status == "KILLED":
        print("interrupted; the same command trains only what is missing", flush=True)
    if status != "FINISHED":
        sys.exit(1 if status == "FAILED" else 130)
    return [results[job.key] for job in jobs]


def _overruled(jobs: Sequence[Job], root: Path) -> list[str]:
    """Return each line of `config.overruled` once; check one job of each combination of groups."""
    groups = {"experiment", *config.BASES}
    samples = {tuple(word for word in job.overrides if word.partition("=")[0] in groups): job for job in jobs}
    found = [config.overruled(root, job.overrides, job.experiment).values() for job in samples.values()]
    return list(dict.fromkeys(line for lines in found for line in lines))


def cached(jobs: Sequence[Job], settings: Tracking, root: Path) -> dict[str, JobResult]:
    """Return the results of jobs that are trained already: on this disk, or in a store shared with other machines."""
    results = {job.key: result for job in jobs if (result := cache.find(job.key, root))}
    missing = [job.key for job in jobs if job.key not in results]
    return results | (_in_store(missing, settings, root) if missing and settings.enabled else {})


def _in_store(keys: Sequence[str], settings: Tracking, root: Path) -> dict[str, JobResult]:
    try:
        stored = sweeps.finished(settings, keys, root=root)
    except StoreError as error:
        log.warning("%s; results of other machines are not known", error)
        return {}
    latest = {key: runs[-1] for key, runs in stored.items() if runs}
    return {key: JobResult(key, Status.reused, run["metrics"], run_id=run["run_id"]) for key, run in latest.items()}


def describe(jobs: Sequence[Job], overrides: Sequence[str]) -> sweeps.Sweep:
    """Return the sweep as its parent run shows it; its key is the same if the same jobs are asked for again."""
    words = [word for word in overrides if not word.lstrip("+").startswith(("resume=", "fail_fast="))]
    experiment, swept = jobs[0].experiment, swept_values(jobs)
    key = hashlib.sha256("".join(sorted(job.key for job in jobs)).encode()).hexdigest()[: fingerprint.LENGTH]
    return sweeps.Sweep(
        key=key,
        experiment=sweeps.experiment_name(experiment),
        name=f"{experiment.name}: sweep of {' × '.join(swept) or 'one job'}",
        note=sweep_description(jobs, words),
        swept=swept,
        tags={"overrides": " ".join(words), "jobs": str(len(jobs))},
    )


def report_lines(
    jobs: Sequence[Job], results: Mapping[str, JobResult], summary: Summary, seconds: float, folder: Path
) -> list[str]:
    counts = Counter(result.status for result in results.values())
    n_done = counts[Status.finished] + counts[Status.reused]
    line = f"{n_done} of {len(jobs)} jobs are finished ({counts[Status.reused]} were before)"
    for status in (Status.failed, Status.stopped):
        line += f", {counts[status]} {status}" if counts[status] else ""
    lines = [f"{line}, after {duration(seconds)}; {folder / TABLE}"]
    return lines + summary.report_lines()
