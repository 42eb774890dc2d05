"""The training loop that the reference (NumPy) and the compiled engine (JAX) share, and what both prepare."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from twinnet.core import augmentation
from twinnet.core.history import Arrays, Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dropout, Flatten, Network
from twinnet.core.problem import Problem
from twinnet.engines.scratch.arrays import Parameters, flatten_tree, unflatten_tree
from twinnet.engines.scratch.step import StepSpec, build_step_spec

SMALL = 1 << 16  # multiplications in a layer's matrix product, weights x samples, below which one thread is faster
EVALUATION_BATCH = 256  # samples evaluated at once, if the training batch is smaller


class Trainer(Protocol):
    """The weights of a training and the way to train them further, on one array library."""

    chunks_per_call: int  # how many chunks `run` takes at best

    def context(self) -> AbstractContextManager[None]:
        """The settings of the array library that `run` needs, entered once."""
        ...

    def run(self, chunks: list[range]) -> list[Chunk]:
        """Train these chunks of epochs, all of one length, and evaluate the validation split after each."""
        ...

    def state(self) -> Any:
        """Return the weights and the optimizer's state; `restore` takes the same structure."""
        ...

    def restore(self, state: Any) -> None: ...

    def parameters(self) -> Parameters:
        """Return a copy of the weights as NumPy arrays, in the engine's layout, one entry a split layer."""
        ...


def train(problem: Problem, trainer: Trainer, monitor: Monitor) -> Parameters:
    """Train all chunks, or until the monitor stops; return the best weights with early stopping, else the last."""
    best = None
    chunks_per_call = trainer.chunks_per_call if monitor.early_stopping.patience is None else 1
    with trainer.context():
        if saved := monitor.resume():
            trainer.restore(unflatten_tree(trainer.state(), saved, "state"))
            best = unflatten_tree(trainer.parameters(), saved, "best") if "best/0" in saved else None
        left = [chunk for chunk in problem.chunks() if chunk.start >= monitor.history.epochs]
        for chunks in call_batches(left, chunks_per_call):
            for measured in trainer.run(chunks):
                stop = monitor(measured)
            if monitor.improved:
                best = trainer.parameters()
            if stop:
                break
            monitor.save_if_due(partial(_checkpoint_arrays, trainer, best))
    return trainer.parameters() if best is None else best


def _checkpoint_arrays(trainer: Trainer, best: Parameters | None) -> Arrays:
    return flatten_tree(trainer.state(), "state") | flatten_tree(best or [], "best")


def call_batches(chunks: list[range], chunks_per_call: int) -> Iterator[list[range]]:
    """Yield the chunks of each call; the last chunk alone if it is shorter than the others."""
    last = [chunks.pop()] if chunks and len(chunks[-1]) < len(chunks[0]) else []
    for start in range(0, len(chunks), chunks_per_call):
        yield chunks[start : start + chunks_per_call]
    if last:
        yield last


def step_spec(problem: Problem) -> StepSpec:
    """Return the problem's spec without its learning rate, which every step is given: it changes no program."""
    optimizer = replace(problem.optimizer, learning_rate=1.0)
    spec = build_step_spec(
        problem.network, problem.loss, problem.task, optimizer, problem.epochs * problem.steps_per_epoch
    )
    return replace(spec, label_smoothing=problem.label_smoothing, ema=problem.ema, shift=problem.augmentation.shift)


def flatten_inputs(network: Network, X: np.ndarray) -> np.ndarray:
    """Return X with each sample in one row if the network begins by flattening it."""
    return X.reshape(len(X), -1) if isinstance(network.layers[0], Flatten) else X


def training_samples(problem: Problem) -> np.ndarray:
    """Return the training samples as the engine reads them: flattened, unless images are changed first."""
    return problem.X_train if augmentation.is_enabled(problem) else flatten_inputs(problem.network, problem.X_train)


def batches(problem: Problem) -> Iterator[slice]:
    """Yield the slice of each batch in the order of an epoch."""
    for start in range(0, len(problem.X_train), problem.batch_size):
        yield slice(start, min(start + problem.batch_size, len(problem.X_train)))


def evaluation_batch(problem: Problem) -> int:
    return min(len(problem.X_valid), max(problem.batch_size, EVALUATION_BATCH))


def is_small(problem: Problem) -> bool:
    """Return whether one thread trains the network faster than several."""
    largest = max((value.size for layer in problem.weights for value in layer.values()), default=0)
    return largest * problem.batch_size < SMALL


class DropoutMasks:
    """Dropout masks from (seed, step) alone, so that every array library drops the same units."""

    def __init__(self, problem: Problem, spec: StepSpec) -> None:
        shape, self.seed, self.layers = problem.network.input_shape, problem.seed, {}
        for i, layer in enumerate(spec.layers):
            if isinstance(layer, Dropout):
                self.layers[i] = (shape[-1:] + shape[:-1], layer.rate)
            shape = layer.output_shape(shape)

    @property
    def units(self) -> int:
        """Count the numbers drawn for one sample."""
        return sum(int(np.prod(shape)) for shape, _ in self.layers.values())

    def draw(self, step: int, samples: int) -> dict[int, np.ndarray]:
        """Return layer number -> mask (units, samples), False for dropped units; `step` counts from 0."""
        if not self.layers:
            return {}
        random = np.random.default_rng([self.seed, step, augmentation.DROPOUT_STREAM])
        return {
            i: random.random((*shape, samples), dtype=np.float32) >= rate for i, (shape, rate) in self.layers.items()
        }
