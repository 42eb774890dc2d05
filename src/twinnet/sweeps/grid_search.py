"""The process that leads a sweep: check everything, find what is trained, launch the rest, tell how it went."""

import hashlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from twinnet.core.schema import Tracking
from twinnet.sweeps import cache, expand, launchers, summary
from twinnet.sweeps import job as outcomes
from twinnet.sweeps.dispatch import Launch, Work
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome
from twinnet.sweeps.jobs import Assignment, tags
from twinnet.sweeps.progress import Progress, duration
from twinnet.training import fingerprint

log = logging.getLogger(__name__)


def lead(
    root: Path,
    overrides: Sequence[str],
    folder: Path,
    *,
    launcher: str,
    launcher_settings: Mapping[str, Any],
    launch: Launch,
) -> list[Outcome]:
    """Run every job of the grid once and return how each ended, in the order of the grid.

    Raises TwinnetError, before any job starts, for what cannot work; ends the process with status 1 where a job
    failed and 130 where it was interrupted.
    """
    jobs, composed = expand.jobs(root, overrides)
    for job in jobs:
        summary.check_objective(composed.objective, job.experiment)
    launchers.check(launcher, launcher_settings)
    sweep = _Sweep(root, jobs, composed, folder.absolute(), overrides)
    found = sweep.found() if composed.resume else {}
    print(f"sweep of {len(jobs)} jobs, {len(found)} of them trained already; {sweep.folder}", flush=True)
    assignment = sweep.begin(launchers.threads(launcher, launcher_settings))
    begun, ended = time.monotonic(), dict(found)
    status = "FAILED"
    with Progress(assignment.outcomes, {job.key: job for job in jobs}, composed.objective) as progress:
        for outcome in found.values():
            progress.tell(outcome)
        waiting = [job for job in jobs if job.key not in found]
        work = Work(launch, launcher, assignment, progress, launchers.at_once(launcher, launcher_settings))
        try:
            _together(waiting, assignment, progress)
            ended |= work.run(waiting)
            status = "FINISHED" if all(outcome.status in outcomes.DONE for outcome in ended.values()) else "FAILED"
        except KeyboardInterrupt:
            status = "KILLED"
        finally:
            progress.look()
            left = outcomes.read(assignment.outcomes)
            ended = {job.key: left[job.key] for job in jobs if job.key in left} | ended
            sweep.end(assignment, ended, status, time.monotonic() - begun)
    if status != "FINISHED":
        sys.exit(1 if status == "FAILED" else 130)
    return [ended[job.key] for job in jobs]


def _together(waiting: Sequence[Job], assignment: Assignment, progress: Progress) -> None:
    if any(job.together for job in waiting):
        from twinnet.sweeps import batched  # the engine, where it trains in this process

        batched.train(waiting, assignment, progress.say)


class _Sweep:
    """The sweep as a whole: its folder, its parent run, its summary."""

    def __init__(
        self, root: Path, jobs: Sequence[Job], composed: DictConfig, folder: Path, overrides: Sequence[str]
    ) -> None:
        self.root, self.jobs, self.composed, self.folder = root, jobs, composed, folder
        self.overrides = [word for word in overrides if not word.startswith(("resume=", "fail_fast="))]
        self.tracking: Tracking = expand.settings(composed, "tracking")
        self.key = hashlib.sha256("".join(sorted(job.key for job in jobs)).encode()).hexdigest()[: fingerprint.LENGTH]
        self.swept = tuple(jobs[0].swept)
        self.parent: str | None = None

    def found(self) -> dict[str, Outcome]:
        """What is trained already: on this disk, or else in a store that is shared with another machine."""
        known: dict[str, Outcome] = {}
        for job in self.jobs:
            if metrics := cache.find(job.key, self.root):
                place = str(cache.directory(job.key, self.root))
                known[job.key] = Outcome(job.key, outcomes.REUSED, metrics, place)
        missing = [job.key for job in self.jobs if job.key not in known]
        return known | (self._elsewhere(missing) if missing and self.tracking.enabled else {})

    def _elsewhere(self, keys: Sequence[str]) -> dict[str, Outcome]:
        from twinnet.tracking import sweeps
        from twinnet.tracking.store import StoreError

        try:
            stored = sweeps.finished(self.tracking, keys, root=self.root)
        except StoreError as error:
            log.warning("%s; what another machine has trained is not known", error)
            return {}
        return {key: Outcome(key, outcomes.REUSED, dict(runs[-1].metrics)) for key, runs in stored.items()}

    def begin(self, threads: int | None) -> Assignment:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.tracking.enabled:
            from twinnet.tracking import sweeps

            described = sweeps.Sweep(
                key=self.key,
                dataset=self.jobs[0].experiment.data.name,
                name=f"sweep of {' × '.join(self.swept) or self.jobs[0].experiment.name}",
                note=summary.announcement(self.jobs, self.overrides),
                swept={name: ", ".join(dict.fromkeys(job.swept[name] for job in self.jobs)) for name in self.swept},
                tags={"overrides": " ".join(self.overrides), "jobs": str(len(self.jobs))},
            )
            self.parent = sweeps.begin(self.tracking, described, root=self.root)
        return Assignment(
            root=self.root,
            folder=self.folder,
            tags={"twinnet.sweep": self.key},
            parent=self.parent,
            resume=self.composed.resume,
            fail_fast=self.composed.fail_fast,
            threads=threads,
            swept=self.swept,
        )

    def end(self, assignment: Assignment, ended: dict[str, Outcome], status: str, seconds: float) -> None:
        """Say how it went, leave the summary in the sweep's folder, and bring the store up to date."""
        whole = summary.summarise(self.jobs, ended, self.composed.objective)
        runs = self._children(assignment, ended)
        files = summary.write(whole, self.folder, runs)
        if self.parent:
            self._close(whole, files, status)
        for line in self._account(whole, ended, status, seconds):
            print(line, flush=True)

    def _account(self, whole: summary.Summary, ended: dict[str, Outcome], status: str, seconds: float) -> list[str]:
        counted = Counter(outcome.status for outcome in ended.values())
        done = counted[outcomes.FINISHED] + counted[outcomes.REUSED]
        said = f"{done} of {len(self.jobs)} jobs are finished ({counted[outcomes.REUSED]} were before)"
        for word in (outcomes.FAILED, outcomes.STOPPED):
            said += f", {counted[word]} {word}" if counted[word] else ""
        lines = [f"{said}, after {duration(seconds)}; {self.folder / summary.TABLE}"]
        if whole.best:
            lines.append(f"best {self.composed.objective}: {whole.best}")
        lines += [f"failed: {line}" for line in whole.failures]
        if status == "KILLED":
            lines.append("interrupted; the same command trains only what is missing")
        return lines

    def _children(self, assignment: Assignment, ended: dict[str, Outcome]) -> dict[str, str]:
        """Result key -> id of its finished run in the store, which is sent now where it was not."""
        if not self.tracking.enabled:
            return {}
        from twinnet.tracking import sweeps

        children = [
            sweeps.SweepRun(job.key, cache.directory(job.key, self.root), tags(job, assignment))
            for job in self.jobs
            if job.key in ended and ended[job.key].status in outcomes.DONE and cache.find(job.key, self.root)
        ]
        return sweeps.sync_children(self.tracking, self.parent, children, root=self.root)

    def _close(self, whole: summary.Summary, files: list[Path], status: str) -> None:
        from twinnet.tracking import sweeps

        assert self.parent is not None
        ending = sweeps.SweepResult(
            status=status,
            note=f"{summary.announcement(self.jobs, self.overrides)}\n\n{whole.note}",
            tags={"best": whole.best, "failures": "; ".join(whole.failures)},
            metrics=whole.best_metrics,
            artifacts=files,
        )
        sweeps.end(self.tracking, self.parent, ending, root=self.root)
