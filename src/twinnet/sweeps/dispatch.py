"""Gives jobs to a launcher until each has an outcome, whatever becomes of the processes that train them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from twinnet.core.errors import TwinnetError
from twinnet.sweeps import job as outcomes
from twinnet.sweeps import jobs as one_job
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome
from twinnet.sweeps.jobs import Assignment
from twinnet.sweeps.progress import Progress

# A task, the overrides of each job, the number of the first one; returns what each task returned, in order.
Launch = Callable[[partial[Any], Sequence[Sequence[str]], int], Sequence[JobReturn]]
CHANGED = (
    "its code or data are not those that the sweep began with (edited meanwhile, or other ones on that host); "
    "start the sweep again"
)


@dataclass
class Work:
    launch: Launch
    launcher: str
    assignment: Assignment
    progress: Progress
    at_once: int | None
    launched: int = 0

    def run(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        """Result key -> outcome. A job that another process is training is looked at again after the others.

        Raises TwinnetError where the launcher itself does not work.
        """
        done: dict[str, Outcome] = {}
        waiting, wait = list(jobs), False
        while waiting:
            length = self.at_once or len(waiting)
            for begin in range(0, len(waiting), length):
                done |= self._batch(waiting[begin : begin + length], wait)
            waiting = [job for job in waiting if done[job.key].status == outcomes.BUSY]
            wait = True
        return done

    def _batch(self, jobs: Sequence[Job], wait: bool) -> dict[str, Outcome]:
        try:
            return self._launch(jobs, wait)
        except Exception as error:
            return self._after_a_crash(jobs, wait, error)

    def _launch(self, jobs: Sequence[Job], wait: bool) -> dict[str, Outcome]:
        """One call of the launcher: a task for each job."""
        task = partial(one_job.run, assignment=replace(self.assignment, wait=wait))
        first, self.launched = self.launched, self.launched + len(jobs)
        returns = self.launch(task, [job.overrides for job in jobs], first)
        done: dict[str, Outcome] = {}
        for job, returned in zip(jobs, returns, strict=True):
            done[job.key] = self._ended(job, returned)
            self.progress.tell(done[job.key])
        return done

    def _ended(self, job: Job, returned: JobReturn) -> Outcome:
        if returned.status is not JobStatus.COMPLETED:
            return Outcome(job.key, outcomes.FAILED, reason=one_job.told(returned._return_value))
        outcome: Outcome = returned.return_value
        if outcome.status == outcomes.FAILED and not outcome.key:  # it failed before it knew its key
            return replace(outcome, key=job.key)
        if outcome.key != job.key:
            return Outcome(job.key, outcomes.FAILED, reason=CHANGED, log=outcome.log)
        return outcome

    def _after_a_crash(self, jobs: Sequence[Job], wait: bool, error: Exception) -> dict[str, Outcome]:
        """The launcher gave up, as joblib does when one of its processes is killed.

        What was in training is tried again, each job alone, so that only the one that kills its process fails.
        """
        ended = outcomes.read(self.assignment.outcomes)
        done = {job.key: ended[job.key] for job in jobs if job.key in ended}
        open_ = [job for job in jobs if job.key not in done]
        begun = [job for job in open_ if self.assignment.started(job.key).exists()]
        if not done and not begun:
            raise TwinnetError(f"hydra/launcher={self.launcher}: {one_job.told(error)}") from error
        for job in begun:
            try:
                done |= self._launch([job], True)
            except Exception as again:
                reason = f"the process that trained it died twice ({type(again).__name__})"
                done[job.key] = outcomes.write(
                    Outcome(job.key, outcomes.FAILED, reason=reason), self.assignment.outcomes
                )
        rest = [job for job in open_ if job not in begun]
        return done | (self._batch(rest, wait) if rest else {})
