"""Jobs of one shape, trained in one compiled call by the process that leads the sweep (engine.batch_configs=true).

What comes of it lies in the sweep's folder, for each job its network and its history. The job is launched like any
other and takes them from there, so that it has its own run, directory, record and outcome, also where it diverged.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from filelock import Timeout

from twinnet.core import config
from twinnet.core.errors import DivergedError
from twinnet.core.history import Chunk, History
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.engines import scratch
from twinnet.sweeps import cache
from twinnet.sweeps.expand import Job
from twinnet.sweeps.jobs import Assignment, told
from twinnet.training import device as devices
from twinnet.training import experiment
from twinnet.training.dataset import load_splits

MOST = 512  # jobs in one call: each holds a lock, which is an open file
FREE = {"": ("name", "description", "seed"), "model": ("init",), "optimizer": ("learning_rate",)}  # may differ
ACCOUNT = "together.json"  # written last


def train(jobs: Sequence[Job], assignment: Assignment, say: Callable[[str], None]) -> None:
    """Train what can be trained together. What goes wrong is said; the jobs are then trained each by itself."""
    for alike in shapes(jobs):
        for begin in range(0, len(alike), MOST):
            with ExitStack() as locks:
                mine = _claimed(alike[begin : begin + MOST], assignment, locks)
                if len(mine) < 2:
                    continue
                say(f"training {len(mine)} configurations of one shape together")
                try:
                    seconds = _train(mine, assignment)
                    say(f"trained {len(mine)} configurations in {seconds:.3g} s")
                except Exception as error:
                    say(f"not together: {told(error)}")


def shapes(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that ask for it, in groups that differ only in seed, initial weights and learning rate."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.together:
            settings = config.plain(job.experiment)
            for part, names in FREE.items():
                for name in names:
                    del (settings[part] if part else settings)[name]
            groups.setdefault(json.dumps(settings, sort_keys=True), []).append(job)
    return [group for group in groups.values() if len(group) > 1]


def handed(key: str, assignment: Assignment) -> experiment.Fit:
    """The way to the network of this job: the one that was trained together with others, else the engine."""
    folder = _folder(key, assignment)
    return partial(_replay, folder) if (folder / ACCOUNT).exists() else experiment.fit


def _folder(key: str, assignment: Assignment) -> Path:
    return assignment.folder / "together" / key


def _claimed(jobs: Sequence[Job], assignment: Assignment, locks: ExitStack) -> list[Job]:
    """The jobs that no other process trains or has trained by now; nobody else begins them while `locks` is open."""
    mine = []
    for job in jobs:
        lock = cache.lock(job.key, assignment.root)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        locks.callback(lock.release)
        if not (assignment.resume and cache.find(job.key, assignment.root)):
            mine.append(job)
    return mine


def _train(jobs: Sequence[Job], assignment: Assignment) -> float:
    """The seconds that the call took; each job's record has its share of them."""
    first = jobs[0].experiment
    device = devices.choose_device(first.device, first.engine)
    dtype, samples = first.engine.dtype.value, first.limits.samples
    splits = load_splits(first.data, root=assignment.root, dtype=dtype, samples=samples)
    problems = [experiment.build_problem(job.experiment, splits, device.kind) for job in jobs]
    monitors = [Monitor(problem.metric, first.early_stopping) for problem in problems]
    start = time.perf_counter()
    fitted = scratch.fit_batched(problems, monitors)
    seconds = time.perf_counter() - start
    for job, network, monitor in zip(jobs, fitted, monitors, strict=True):
        _leave(_folder(job.key, assignment), network, monitor, seconds / len(jobs))
    return seconds


def _leave(folder: Path, network: scratch.ScratchNetwork | DivergedError, monitor: Monitor, seconds: float) -> None:
    folder.mkdir(parents=True)
    experiment.write_history(monitor.history, folder)
    if isinstance(network, scratch.ScratchNetwork):
        network.save(folder)
    diverged = str(network) if isinstance(network, DivergedError) else None
    (folder / ACCOUNT).write_text(json.dumps({"seconds": seconds, "diverged": diverged}))


def _replay(folder: Path, problem: Problem, monitor: Monitor) -> tuple[TrainedNetwork, float]:
    """Report to the monitor what was recorded, as an engine does: `training.Fit`. Raises DivergedError."""
    account = json.loads((folder / ACCOUNT).read_text())
    for chunk in _chunks(folder / "history.npz", problem.metric):
        monitor(chunk)
    if account["diverged"]:
        raise DivergedError(account["diverged"], monitor.history)
    return scratch.load(folder / "model.npz"), account["seconds"]


def _chunks(file: Path, metric: str) -> Iterator[Chunk]:
    with np.load(file, allow_pickle=False) as arrays:
        history = History.restore(metric, arrays)
    parts = (history.train_loss, history.train_metric, history.valid_loss, history.valid_metric)
    yield from map(Chunk, *parts)
