"""How a sweep goes, on a terminal and in a log file: one line for each job, and a bar for the whole.

The jobs run in other processes, perhaps on other machines, while the launcher keeps this one waiting; so a thread
looks at the outcomes that they leave in the sweep's folder.
"""

import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from twinnet.sweeps import job
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome

POLL_SECONDS = 0.5


class Progress:
    """Tells of each outcome once; use as a context around the launcher's work. `jobs` maps result keys to jobs."""

    def __init__(self, folder: Path, jobs: dict[str, Job], objective: str, stream: TextIO | None = None) -> None:
        self.folder, self.jobs, self.objective = folder, jobs, objective
        self.stream = stream or sys.stdout
        self.told: dict[str, Outcome] = {}
        self.begun = time.monotonic()
        self.trained = 0
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
        self.bar.close()

    def tell(self, outcome: Outcome) -> None:
        """One line about a job that has ended."""
        with self.lock:
            if outcome.key in self.told or outcome.key not in self.jobs or outcome.status == job.BUSY:
                return
            self.told[outcome.key] = outcome
            self.trained += outcome.status == job.FINISHED
            place = f"[{len(self.told):>{len(str(len(self.jobs)))}}/{len(self.jobs)}]"
            line = f"{place} {outcome.status:<8} {self.jobs[outcome.key].label}: {self._account(outcome)}"
            self.say(line + self._left())
            self.bar.update()

    def say(self, line: str) -> None:
        """A line above the bar."""
        tqdm.write(line, file=self.stream)
        self.stream.flush()

    def _account(self, outcome: Outcome) -> str:
        if outcome.status not in job.DONE:
            return outcome.reason
        wanted = [self.objective, "valid/loss", "valid/accuracy", "valid/mae"]
        shown = [f"{key} {outcome.metrics[key]:.4f}" for key in dict.fromkeys(wanted) if key in outcome.metrics]
        seconds = f" in {outcome.metrics['seconds']:.3g} s" if "seconds" in outcome.metrics else ""
        return ", ".join(shown) + (seconds if outcome.status == job.FINISHED else "")

    def _left(self) -> str:
        """How long the rest may take, for a log file, where no bar tells it."""
        rest = len(self.jobs) - len(self.told)
        if not rest or not self.trained or not self.bar.disable:
            return ""
        return f"; about {duration((time.monotonic() - self.begun) / self.trained * rest)} left"

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            self.look()

    def look(self) -> None:
        """Tell of what has ended since the last look."""
        for outcome in job.read(self.folder).values():
            self.tell(outcome)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
