"""The parent run of a sweep or a search: begun before its jobs, closed with their summary, on disk and in MLflow."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from twinnet.core.schema import Tracking
from twinnet.sweeps import cache, figures
from twinnet.sweeps.job import Job, JobResult, Status, SweepContext
from twinnet.sweeps.summary import Summary, summarise, write_tables
from twinnet.tracking import sweeps
from twinnet.tracking.process import this_process
from twinnet.training.run import Run

log = logging.getLogger(__name__)

MAX_LINKS = 50  # reused runs in the description


class ParentRun:
    def __init__(self, root: Path, settings: Tracking, sweep: sweeps.Sweep, folder: Path, objective: str) -> None:
        """`folder` is for the summary; begins the run in MLflow if tracking is on."""
        self.root, self.settings, self.sweep, self.folder, self.objective = root, settings, sweep, folder, objective
        self.tags = {sweeps.KIND: sweep.key, sweeps.LEADER: this_process()}  # of the children
        self.run_id = sweeps.begin(settings, sweep, root=root)

    def context(
        self, composed: DictConfig, threads: int | None, swept: Iterable[str], *, fail_fast: bool, wait: bool
    ) -> SweepContext:
        """Return what is passed to each job, whose overrides `composed` has in common with the others."""
        return SweepContext(
            root=self.root,
            folder=self.folder,
            tracking=self.settings,
            tags=self.tags,
            parent=self.run_id,
            resume=composed.resume,
            fail_fast=fail_fast,
            threads=threads,
            swept=tuple(swept),
            figures=composed.figures,
            wait=wait,
        )

    def end(
        self,
        jobs: Sequence[Job],
        results: Mapping[str, JobResult],
        status: str,
        draw_all: bool = False,
        lost: Sequence[str] = (),
    ) -> Summary:
        """Write and draw the summary, draw the best run (or all), and bring the store up to date.

        `lost` are keys of jobs that another machine has begun, and will not end.
        """
        summary = summarise(jobs, results, self.objective)
        drawn = self._draw_runs(summary, results, draw_all)
        drawn += figures.draw(summary.table, summary.swept, self.objective, self.folder)  # while the last jobs are sent
        stored = {key: result.run_id for key, result in results.items() if result.run_id}
        runs = stored | self._sync_children(jobs, results)
        if self.run_id and status != "KILLED":  # else jobs of a cluster may go on
            sweeps.give_up_lost(self.settings, self.sweep.key, lost, root=self.root)
        files = write_tables(summary, self.folder, runs)
        if self.run_id:
            result = sweeps.SweepResult(
                status=status,
                note="\n\n".join([summary.note, *_reused(jobs, results, runs), self.sweep.note]),  # MLflow cuts its end
                tags={"best": summary.best, "failures": "; ".join(summary.failures)},
                metrics=summary.best_metrics,
                artifacts=[str(file) for file in files + drawn],
            )
            sweeps.end(self.settings, self.run_id, result, root=self.root)
        return summary

    def _draw_runs(self, summary: Summary, results: Mapping[str, JobResult], draw_all: bool) -> list[Path]:
        """Draw the best run, or all, unless they have figures; return the figures of the best."""
        from twinnet.compare.draw import draw_run  # 1 s: matplotlib, scikit-learn; after the jobs

        keys = [key for key, result in results.items() if result.is_done and result.directory]
        for key in keys if draw_all else [summary.best_key]:
            directory = cache.directory(key, self.root)
            if key in keys and not (directory / "figures").exists():
                try:
                    draw_run(Run.read(directory), root=self.root)
                except Exception as error:  # the sweep ends without them
                    log.warning("%s: its figures are not drawn: %s", directory, error)
        best = cache.directory(summary.best_key, self.root)
        return sorted((best / "figures").glob("*.png")) if summary.best_key else []

    def _sync_children(self, jobs: Sequence[Job], results: Mapping[str, JobResult]) -> dict[str, str]:
        """Send the finished runs of this disk that the store lacks; return key -> run id."""
        if not self.settings.enabled:
            return {}
        children = []
        for job in jobs:
            result = results.get(job.key)
            if result and result.is_done and result.directory:
                children.append(sweeps.SweepRun(job.key, cache.directory(job.key, self.root), job.tags(self.tags)))
            elif result and result.status is Status.finished and "seconds" in result.metrics:
                children.append(sweeps.SweepRun(job.key, None, job.tags(self.tags), result.metrics["seconds"]))
        return sweeps.sync_children(self.settings, self.run_id, children, root=self.root)


def _reused(jobs: Sequence[Job], results: Mapping[str, JobResult], runs: Mapping[str, str]) -> list[str]:
    """Return the paragraph that names the runs of reused jobs, which are children of earlier sweeps."""
    reused = [job for job in jobs if job.key in results and results[job.key].status is Status.reused]
    lines = [f"- [{job.label}](#/runs/{runs[job.key]})" for job in reused if job.key in runs]
    if len(lines) > MAX_LINKS:
        lines = [*lines[:MAX_LINKS], f"- and {len(lines) - MAX_LINKS} more, see summary.csv"]
    return ["**Reused.**\n" + "\n".join(lines)] if lines else []
