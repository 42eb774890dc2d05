"""Many trainings at once: a pool of threads that share the compiled program of a single training."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from joblib import cpu_count

from twinnet.core.errors import DivergedError
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem
from twinnet.engines.scratch.arrays import Parameters
from twinnet.engines.scratch.jax_trainer import JaxTrainer
from twinnet.engines.scratch.trainer import train


def train_batched(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> list[Parameters | DivergedError]:
    """Return for each problem the weights that `train` gives it, or the DivergedError that ended its training.

    XLA holds no lock of Python while it computes, so that each thread keeps a core busy. Problems that differ only in
    weights, seed, learning rate and the numbers of their data share one program; others compile their own.
    """
    if not problems:
        return []
    JaxTrainer(problems[0]).compile()  # here, or each thread would compile it
    pool = ThreadPoolExecutor(_n_workers(problems[0]))
    try:
        return list(pool.map(_train_one, problems, monitors))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C no other training starts


def _train_one(problem: Problem, monitor: Monitor) -> Parameters | DivergedError:
    try:
        return train(problem, JaxTrainer(problem), monitor)
    except DivergedError as error:
        return error


def _n_workers(problem: Problem) -> int:
    return 1 if problem.device == "gpu" else problem.engine.threads or cpu_count()
