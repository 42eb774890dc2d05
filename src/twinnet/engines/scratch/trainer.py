"""The training loop that the reference (NumPy) and the compiled engine (JAX) share, and what both prepare."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from twinnet.core.history import Arrays, Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dropout, Flatten, Network
from twinnet.core.problem import Problem
from twinnet.engines.scratch.arrays import Parameters, filled, named
from twinnet.engines.scratch.step import Recipe, recipe

SMALL = 1 << 16  # multiplications in a layer's matrix product below which one thread is faster than several
EVALUATION_BATCH = 256  # samples evaluated at once, where the training batch is smaller


class Trainer(Protocol):
    """What holds the weights of a training and moves them on."""

    together: int  # how many chunks it is best given at once

    def context(self) -> AbstractContextManager[None]:
        """The settings of the array library that `run` needs, entered once."""
        ...

    def run(self, chunks: list[range]) -> list[Chunk]:
        """Train these chunks of epochs, all of one length, and evaluate the validation split after each."""
        ...

    def state(self) -> Any:
        """The weights and the optimizer's state; `restore` takes the same with other numbers in it."""
        ...

    def restore(self, state: Any) -> None: ...

    def parameters(self) -> Parameters:
        """A copy of the weights as NumPy arrays, in the engine's layout, of the unfolded layers."""
        ...


def train(problem: Problem, trainer: Trainer, monitor: Monitor) -> Parameters:
    """All chunks, or as many as the monitor wants; the best weights where it looks for them, else the last."""
    best = None
    together = trainer.together if monitor.early_stopping.patience is None else 1
    with trainer.context():
        if kept := monitor.resume():
            trainer.restore(filled(trainer.state(), kept, "state"))
            best = filled(trainer.parameters(), kept, "best") if "best/0" in kept else None
        left = [chunk for chunk in problem.chunks() if chunk.start >= monitor.history.epochs]
        for chunks in groups(left, together):
            for measured in trainer.run(chunks):
                stop = monitor(measured)
            if monitor.improved:
                best = trainer.parameters()
            if stop:
                break
            monitor.keep(partial(_kept, trainer, best))
    return trainer.parameters() if best is None else best


def _kept(trainer: Trainer, best: Parameters | None) -> Arrays:
    return named(trainer.state(), "state") | named(best or [], "best")


def groups(chunks: list[range], together: int) -> Iterator[list[range]]:
    """The chunks, several at once; the last one by itself where it is shorter than the others."""
    last = [chunks.pop()] if chunks and len(chunks[-1]) < len(chunks[0]) else []
    for start in range(0, len(chunks), together):
        yield chunks[start : start + together]
    if last:
        yield last


def program(problem: Problem) -> Recipe:
    """The problem's recipe without what changes no program: the learning rate is given with every step."""
    optimizer = replace(problem.optimizer, learning_rate=1.0)
    return recipe(problem.network, problem.loss, problem.task, optimizer, problem.epochs * problem.steps_per_epoch)


def rows(network: Network, X: np.ndarray) -> np.ndarray:
    """X with each sample in one row, where the network begins by flattening it."""
    return X.reshape(len(X), -1) if isinstance(network.layers[0], Flatten) else X


def batches(problem: Problem) -> Iterator[slice]:
    """Where each batch lies in the order of an epoch."""
    for start in range(0, len(problem.X_train), problem.batch_size):
        yield slice(start, min(start + problem.batch_size, len(problem.X_train)))


def evaluation_batch(problem: Problem) -> int:
    return min(len(problem.X_valid), max(problem.batch_size, EVALUATION_BATCH))


def threads(problem: Problem) -> int | None:
    """As many as the engine is told, else one for a small network, else None: the array library's own choice."""
    largest = max((value.size for layer in problem.weights for value in layer.values()), default=0)
    return problem.engine.threads or (1 if largest * problem.batch_size < SMALL else None)


class Masks:
    """Dropout masks from (seed, step) alone, so that every array library drops the same units."""

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        shape, self.seed, self.layers = problem.network.input_shape, problem.seed, {}
        for i, layer in enumerate(recipe.layers):
            if isinstance(layer, Dropout):
                self.layers[i] = (shape[-1:] + shape[:-1], layer.rate)
            shape = layer.output_shape(shape)

    @property
    def units(self) -> int:
        """Numbers drawn for one sample."""
        return sum(int(np.prod(shape)) for shape, _ in self.layers.values())

    def draw(self, step: int, samples: int) -> dict[int, np.ndarray]:
        """Layer number -> mask (units, samples), True where a unit is kept; `step` counts from 0 over all epochs."""
        if not self.layers:
            return {}
        random = np.random.default_rng([self.seed, step, 1])
        return {
            i: random.random((*shape, samples), dtype=np.float32) >= rate for i, (shape, rate) in self.layers.items()
        }
