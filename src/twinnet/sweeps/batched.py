"""Jobs of one shape, trained at once by the process that leads the sweep (engine.batch_configs=true).

The network and history of each lie in the sweep's folder until the launched job loads them.
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
from twinnet.core.errors import DivergedError, one_line_text
from twinnet.core.history import Chunk, History
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.engines import scratch
from twinnet.sweeps import cache
from twinnet.sweeps.job import Job, SweepContext
from twinnet.training import experiment as training
from twinnet.training.dataset import load_splits
from twinnet.training.device import choose_device
from twinnet.training.experiment import Fit

MAX_JOBS = 64  # in one call: their histories are in memory, and each holds a lock, which is an open file
VARYING = {"": ("name", "description", "seed"), "model": ("init",), "optimizer": ("learning_rate",)}  # in one shape
RESULT = "result.json"  # written last


def train_batched(jobs: Sequence[Job], context: SweepContext, report: Callable[[str], None]) -> None:
    """Train the jobs that can be batched. An error is reported; the jobs are then trained one by one."""
    for group in group_by_shape(jobs):
        for start in range(0, len(group), MAX_JOBS):
            with ExitStack() as locks:
                untrained = _lock_untrained(group[start : start + MAX_JOBS], context, locks)
                if len(untrained) < 2:
                    continue
                report(f"training {len(untrained)} configurations of one shape at once")
                try:
                    seconds = _train(untrained, context)
                except Exception as error:
                    report(f"not batched: {one_line_text(error)}")
                else:
                    each = seconds / len(untrained)
                    report(f"trained {len(untrained)} configurations in {seconds:.3g} s, {each:.3g} s each")


def group_by_shape(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return the batched jobs in groups that differ only in seed, initial weights and learning rate."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.is_batched:
            shape = config.plain(job.experiment)
            for part, names in VARYING.items():
                for name in names:
                    del (shape[part] if part else shape)[name]
            groups.setdefault(json.dumps(shape, sort_keys=True), []).append(job)
    return [group for group in groups.values() if len(group) > 1]


def batched_fit(key: str, context: SweepContext) -> Fit:
    """Return the function that gives the job its batched network, or that of its engine if it was not batched."""
    result = folder(context) / key
    return partial(_load_result, result) if (result / RESULT).exists() else training.fit


def folder(context: SweepContext) -> Path:
    """Return the folder of the batched results, needed until the jobs have ended."""
    return context.state / "batched"


def _lock_untrained(jobs: Sequence[Job], context: SweepContext, locks: ExitStack) -> list[Job]:
    """Return the jobs that no other process trains or has trained; they are locked until `locks` closes."""
    untrained = []
    for job in jobs:
        lock = cache.lock(job.key, context.root)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        locks.callback(lock.release)
        if not (context.resume and cache.find(job.key, context.root)):
            untrained.append(job)
    return untrained


def _train(jobs: Sequence[Job], context: SweepContext) -> float:
    """Train the jobs and save their results; return the seconds, of which each job's record has its share."""
    first = jobs[0].experiment
    device = choose_device(first.device, first.engine)
    splits = load_splits(first.data, root=context.root, dtype=first.engine.dtype, samples=first.limits.samples)
    problems = [training.build_problem(job.experiment, splits, device.kind) for job in jobs]
    monitors = [Monitor(problem.metric, first.early_stopping) for problem in problems]
    start = time.perf_counter()
    fitted = scratch.fit_batched(problems, monitors)
    seconds = time.perf_counter() - start
    for job, network, monitor in zip(jobs, fitted, monitors, strict=True):
        _save_result(folder(context) / job.key, network, monitor, seconds / len(jobs))
    return seconds


def _save_result(
    folder: Path, network: scratch.ScratchNetwork | DivergedError, monitor: Monitor, seconds: float
) -> None:
    folder.mkdir(parents=True)
    np.savez(folder / "history.npz", **monitor.history.arrays())  # type: ignore[arg-type]  # names hold "/"
    if isinstance(network, scratch.ScratchNetwork):
        network.save(folder)
    diverged = str(network) if isinstance(network, DivergedError) else None
    (folder / RESULT).write_text(json.dumps({"seconds": seconds, "diverged": diverged}))


def _load_result(folder: Path, problem: Problem, monitor: Monitor) -> tuple[TrainedNetwork, float]:
    """Replay the saved history to the monitor, as an engine would: a `Fit`. Raises DivergedError."""
    result = json.loads((folder / RESULT).read_text("utf-8"))
    for chunk in _chunks(folder / "history.npz", problem.metric):
        monitor(chunk)
    if result["diverged"]:
        raise DivergedError(result["diverged"], monitor.history)
    return scratch.load(folder / "model.npz"), result["seconds"]


def _chunks(file: Path, metric: str) -> Iterator[Chunk]:
    with np.load(file, allow_pickle=False) as arrays:
        if not len(arrays["valid_epoch"]):  # diverged in its first chunk
            return
        history = History.restore(metric, arrays)
    yield from map(Chunk, history.train_loss, history.train_metric, history.valid_loss, history.valid_metric)
