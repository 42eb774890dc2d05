"""Progress of a sweep: one line for each job that ends, and a bar on a terminal."""

import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from twinnet.sweeps.job import Job, JobResult, Status, read_results

POLL_SECONDS = 0.5


class Progress:
    """Reports each result once; a context around the launcher's work.

    The jobs run in other processes while the launcher blocks this one, so a thread polls the sweep's folder for
    results. `jobs` maps keys to jobs.
    """

    def __init__(self, folder: Path, jobs: dict[str, Job], objective: str, stream: TextIO | None = None) -> None:
        self.folder, self.jobs, self.objective = folder, jobs, objective
        self.stream = stream or sys.stdout
        self.reported: set[str] = set()
        self.start = time.monotonic()
        self.n_trained = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.bar = tqdm(total=len(jobs), desc="sweep", unit="job", disable=None, leave=False, file=sys.stderr)

    def __enter__(self) -> "Progress":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.poll()
        self.bar.close()

    def report(self, result: JobResult) -> None:
        """Print one line about a job that has ended."""
        with self.lock:
            if result.key in self.reported or result.key not in self.jobs or result.status is Status.busy:
                return
            self.reported.add(result.key)
            self.n_trained += result.status is Status.finished
            number = f"[{len(self.reported):>{len(str(len(self.jobs)))}}/{len(self.jobs)}]"
            line = f"{number} {result.status:<8} {self.jobs[result.key].label}: {self._scores(result)}"
            self.print_above(line + self._time_left())
            self.bar.update()

    def print_above(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line, file=self.stream)
        self.stream.flush()

    def poll(self) -> None:
        """Report what has ended since the last call."""
        for result in read_results(self.folder, known=self.reported).values():
            self.report(result)

    def _scores(self, result: JobResult) -> str:
        if not result.is_done:
            return result.reason
        names = dict.fromkeys([self.objective, "valid/loss", "valid/accuracy", "valid/mae"])
        scores = ", ".join(f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)
        if result.status is Status.finished and "seconds" in result.metrics:
            return f"{scores} in {result.metrics['seconds']:.3g} s"
        return scores

    def _time_left(self) -> str:
        """Return the time that the rest may take, for a log file, which has no bar."""
        rest = len(self.jobs) - len(self.reported)
        if not rest or not self.n_trained or not self.bar.disable:
            return ""
        return f"; about {duration((time.monotonic() - self.start) / self.n_trained * rest)} left"

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            self.poll()


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
