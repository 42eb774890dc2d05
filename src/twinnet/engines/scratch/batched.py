"""Many trainings at once: on a CPU threads that share one compiled program, on a GPU one program of them all."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from joblib import cpu_count

from twinnet.core import augmentation
from twinnet.core.errors import DivergedError
from twinnet.core.history import Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dropout
from twinnet.core.problem import Problem
from twinnet.engines.scratch.arrays import Parameters
from twinnet.engines.scratch.jax_trainer import JaxTrainer, initial_state
from twinnet.engines.scratch.jit import CallShape, train_chunks
from twinnet.engines.scratch.optimizers import evaluated_weights
from twinnet.engines.scratch.step import StepSpec
from twinnet.engines.scratch.trainer import call_batches, step_spec, train


def train_batched(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> list[Parameters | DivergedError]:
    """Return for each problem the weights that `train` gives it, or the DivergedError that ended its training.

    XLA holds no lock of Python while it computes, so that each thread keeps a core busy. Problems that differ only in
    weights, seed, learning rate and the numbers of their data share one program; others compile their own.
    """
    if not problems:
        return []
    if problems[0].device == "gpu" and _can_stack(problems, monitors):
        return train_stacked(problems, monitors)
    JaxTrainer(problems[0]).compile()  # here, or each thread would compile it
    pool = ThreadPoolExecutor(_n_workers(problems[0]))
    try:
        return list(pool.map(_train_one, problems, monitors))
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C no other training starts


def train_stacked(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> list[Parameters | DivergedError]:
    """Train all in each step of one program, within rounding of what each gives alone; see `_can_stack`."""
    first = JaxTrainer(problems[0])
    diverged: dict[int, DivergedError] = {}
    with first.context():
        call = _stacked_chunks(first.spec, first.size)
        states = (initial_state(problem, first.spec) for problem in problems)
        carry = jax.device_put(jax.tree.map(lambda *each: np.stack(each), *states), first.device)
        rates = np.array([problem.optimizer.learning_rate for problem in problems], problems[0].X_train.dtype)
        for chunks in call_batches(list(problems[0].chunks()), first.chunks_per_call):
            length = len(chunks[0])
            carry, train, valid = call(carry, rates, first.data, None, ({}, {}), {}, len(chunks), length)
            curves = zip(*(np.asarray(values, float) for values in (*train, *valid)), strict=True)
            for number, (monitor, measured) in enumerate(zip(monitors, curves, strict=True)):
                if number not in diverged and (error := _record(monitor, len(chunks), length, *measured)):
                    diverged[number] = error
        weights = jax.tree.map(np.asarray, jax.vmap(evaluated_weights)(*carry))
    return [diverged.get(i) or jax.tree.map(partial(_entry, i), weights) for i in range(len(problems))]


def _record(
    monitor: Monitor, chunks: int, length: int, loss: np.ndarray, metric: np.ndarray, *valid: np.ndarray
) -> DivergedError | None:
    for i in range(chunks):
        epochs = slice(i * length, (i + 1) * length)
        try:
            monitor(Chunk(loss[epochs], metric[epochs], *(float(values[i]) for values in valid)))
        except DivergedError as error:
            return error
    return None


def _entry(number: int, stacked: np.ndarray) -> np.ndarray:
    return stacked[number].copy()


def _can_stack(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> bool:
    """Whether all train one network on the same samples, all of them in each step, for as many epochs."""
    first = problems[0]
    return all(
        (step_spec(problem), problem.epochs) == (step_spec(first), first.epochs)
        and problem.X_train is first.X_train
        and augmentation.is_unchanging(problem)
        and not any(isinstance(layer, Dropout) for layer in problem.network.layers)
        and monitor.early_stopping.patience is None
        and monitor.checkpoint is None
        for problem, monitor in zip(problems, monitors, strict=True)
    )


@cache
def _stacked_chunks(spec: StepSpec, size: CallShape) -> Any:
    each = jax.vmap(partial(train_chunks, spec, size), in_axes=(0, 0, *[None] * 6))
    return jax.jit(each, donate_argnums=0)


def _train_one(problem: Problem, monitor: Monitor) -> Parameters | DivergedError:
    try:
        return train(problem, JaxTrainer(problem), monitor)
    except DivergedError as error:
        return error


def _n_workers(problem: Problem) -> int:
    return 1 if problem.device == "gpu" else problem.engine.threads or cpu_count()
