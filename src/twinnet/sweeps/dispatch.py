"""Run jobs with a Hydra launcher; a job whose process dies is retried once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from twinnet.core.errors import TwinnetError, one_line_text
from twinnet.sweeps.job import Job, JobResult, Status, SweepContext, read_results, write_result
from twinnet.sweeps.job_runner import run_job
from twinnet.sweeps.progress import Progress

# A task, the overrides of each job, the number of the first one; returns what each task returned, in order.
Launch = Callable[[partial[Any], Sequence[Sequence[str]], int], Sequence[JobReturn]]
CHANGED = "its code or data changed since the sweep started (or differ on that host); start the sweep again"


@dataclass
class Dispatcher:
    launch: Launch
    launcher: str
    context: SweepContext
    progress: Progress
    max_parallel: int | None  # jobs in one call of the launcher; None: all
    launched: int = 0

    def run(self, jobs: Sequence[Job]) -> dict[str, JobResult]:
        """Return key -> result. A job that another process trains is tried again after the others.

        Raises TwinnetError if the launcher itself does not work.
        """
        results: dict[str, JobResult] = {}
        waiting, wait = list(jobs), False
        while waiting:
            length = self.max_parallel or len(waiting)
            for start in range(0, len(waiting), length):
                results |= self._run_batch(waiting[start : start + length], wait)
            waiting = [job for job in waiting if results[job.key].status is Status.busy]
            wait = True
        return results

    def _run_batch(self, jobs: Sequence[Job], wait: bool) -> dict[str, JobResult]:
        try:
            return self._launch(jobs, wait)
        except TwinnetError:
            raise
        except Exception as error:
            return self._retry_after_crash(jobs, wait, error)

    def _launch(self, jobs: Sequence[Job], wait: bool) -> dict[str, JobResult]:
        """Call the launcher once, with a task for each job."""
        task = partial(run_job, context=replace(self.context, wait=wait))
        first, self.launched = self.launched, self.launched + len(jobs)
        returns = self.launch(task, [job.overrides for job in jobs], first)
        results = {job.key: _result(job, returned) for job, returned in zip(jobs, returns, strict=True)}
        for result in results.values():
            if result.status is Status.failed:
                self.context.stop_after_failure()
            self.progress.report(result)
        return results

    def _retry_after_crash(self, jobs: Sequence[Job], wait: bool, error: Exception) -> dict[str, JobResult]:
        """Go on after the launcher gave up, as joblib does if one of its processes is killed.

        Each job that was in training is tried again alone, so that only the one that kills its process fails.
        """
        ended = read_results(self.context.results)
        results = {job.key: ended[job.key] for job in jobs if job.key in ended}
        unfinished = [job for job in jobs if job.key not in results]
        started = [job for job in unfinished if self.context.start_marker(job.key).exists()]
        if not results and not started:
            raise TwinnetError(f"hydra/launcher={self.launcher}: {one_line_text(error)}") from error
        for job in started:
            try:
                results |= self._launch([job], True)
            except Exception as second:
                reason = f"the process that trained it died twice ({type(second).__name__})"
                failed = JobResult(job.key, Status.failed, reason=reason)
                results[job.key] = write_result(failed, self.context.results)
                self.context.stop_after_failure()
        rest = [job for job in unfinished if job not in started]
        return results | (self._run_batch(rest, wait) if rest else {})


def _result(job: Job, returned: JobReturn) -> JobResult:
    if returned.status is not JobStatus.COMPLETED:
        return JobResult(job.key, Status.failed, reason=one_line_text(returned._return_value))
    result: JobResult = returned.return_value
    if result.status is Status.failed and not result.key:  # it failed before it knew its key
        return replace(result, key=job.key)
    if result.key != job.key:
        return JobResult(job.key, Status.failed, reason=CHANGED, log=result.log)
    return result
