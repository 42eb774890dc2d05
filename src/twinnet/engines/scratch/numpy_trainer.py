"""The readable reference: the training loop in NumPy, step by step."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from twinnet.core import augmentation
from twinnet.core.history import Chunk
from twinnet.core.problem import Problem
from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.arrays import Array, Parameters, to_engine_layout
from twinnet.engines.scratch.step import evaluate, expand_weights, inputs, step, training_inputs
from twinnet.engines.scratch.trainer import (
    DropoutMasks,
    batches,
    evaluation_batch,
    flatten_inputs,
    is_small,
    step_spec,
    training_samples,
)


class NumpyTrainer:
    """A training whose arrays are NumPy's; see `trainer.Trainer`."""

    chunks_per_call = 1

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.spec = step_spec(problem)
        self.weights = expand_weights(problem.network.layers, to_engine_layout(problem.weights))
        self.optimizer_state = optimizers.init_state(self.spec.optimizer, self.weights, problem.ema)
        self.rate = np.asarray(problem.optimizer.learning_rate, problem.X_train.dtype)
        self.masks = DropoutMasks(problem, self.spec)
        self.X, self.X_valid = training_samples(problem), flatten_inputs(problem.network, problem.X_valid)
        self.whole = (
            training_inputs(self.spec, self.X, problem.y_train, {}, np) if augmentation.is_unchanging(problem) else None
        )
        self.threads = problem.engine.threads or (1 if is_small(problem) else None)  # None: NumPy chooses

    @contextmanager
    def context(self) -> Iterator[None]:
        # The monitor reports a non-finite loss once; silence NumPy's warnings.
        with np.errstate(all="ignore"), threadpool_limits(self.threads):
            yield

    def run(self, chunks: list[range]) -> list[Chunk]:
        return [Chunk(*np.array([self._epoch(epoch) for epoch in epochs]).T, *self._evaluate()) for epochs in chunks]

    def state(self) -> tuple[Parameters, optimizers.State]:
        return self.weights, self.optimizer_state

    def restore(self, state: tuple[Parameters, optimizers.State]) -> None:
        self.weights, self.optimizer_state = state

    def parameters(self) -> Parameters:
        weights = optimizers.evaluated_weights(self.weights, self.optimizer_state)
        return [{name: value.copy() for name, value in layer.items()} for layer in weights]

    def _epoch(self, epoch: int) -> np.ndarray:
        """Loss and metric of the epoch, averaged over its batches."""
        if self.whole:
            return self._step(epoch, *self.whole)
        problem, order, total = self.problem, self.problem.order(epoch), np.zeros(2)
        drawn = augmentation.sample(problem, epoch)
        for number, part in enumerate(batches(problem), epoch * problem.steps_per_epoch):
            changes = augmentation.take(drawn, part)
            A, Y = training_inputs(self.spec, self.X[order[part]], problem.y_train[order[part]], changes, np)
            total += self._step(number, A, Y) * A.shape[-1]
        return total / len(problem.X_train)

    def _step(self, number: int, A: Array, Y: Array) -> np.ndarray:
        """Train step `number`, counted from 0; return its loss and metric."""
        masks = self.masks.draw(number, A.shape[-1])
        self.weights, self.optimizer_state, *measured = step(
            self.spec, self.weights, self.optimizer_state, self.rate, A, Y, masks, np
        )
        return np.array(measured, dtype=float)

    def _evaluate(self) -> np.ndarray:
        total, size = np.zeros(2), evaluation_batch(self.problem)
        weights = optimizers.evaluated_weights(self.weights, self.optimizer_state)
        for start in range(0, len(self.X_valid), size):
            part = slice(start, start + size)
            A, Y = inputs(self.spec, self.X_valid[part], self.problem.y_valid[part], np)
            total += np.array(evaluate(self.spec, weights, A, Y, np), dtype=float) * A.shape[-1]
        return total / len(self.X_valid)
