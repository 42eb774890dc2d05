"""The batches of a training in the order that the problem settles, as Keras' `fit` takes them."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import keras
import numpy as np

from twinnet.config.schema import Loss, Task
from twinnet.engines.contract import Problem
from twinnet.engines.keras import augmentation


def targets(problem: Problem, y: np.ndarray) -> np.ndarray:
    """What the loss compares outputs with: classes as integers where it can, else numbers, (samples, units)."""
    if problem.task is not Task.multiclass:
        return y.astype(problem.X_train.dtype).reshape(-1, 1)
    if problem.loss is Loss.categorical_crossentropy:
        return y.astype(np.int32)
    return np.eye(problem.network.shapes()[-1][0], dtype=problem.X_train.dtype)[y]


def batches(problem: Problem) -> Any:
    """The batches of all epochs, one after the other."""
    return (_dataset if keras.backend.backend() == "tensorflow" else _Sequence)(problem)


class _Sequence(keras.utils.PyDataset):
    """Batches by their position, for a backend that takes NumPy arrays."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem, self.y = problem, targets(problem, problem.y_train)
        self.epoch = -1

    def __len__(self) -> int:
        return self.problem.steps_per_epoch * self.problem.epochs

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        problem = self.problem
        epoch, step = divmod(index, problem.steps_per_epoch)
        if _unchanging(problem):
            return problem.X_train, self.y
        if epoch != self.epoch:
            self.epoch, self.order = epoch, problem.order(epoch)
            self.changes = augmentation.draw(problem, epoch)
        rows = slice(step * problem.batch_size, (step + 1) * problem.batch_size)
        X = problem.X_train[self.order[rows]]
        if augmentation.wanted(problem):
            X = np.asarray(augmentation.apply(X, self.changes[rows], problem.augmentation.shift))
        return X, self.y[self.order[rows]]


def _unchanging(problem: Problem) -> bool:
    return problem.full_batch and not augmentation.wanted(problem)


def _dataset(problem: Problem) -> Any:
    """A tf.data pipeline: Python draws the order once an epoch, TensorFlow gathers the batches beside the training."""
    tf = import_module("tensorflow")
    with tf.device("cpu:0"):
        X, y = tf.constant(problem.X_train), tf.constant(targets(problem, problem.y_train))
    if _unchanging(problem):
        return tf.data.Dataset.from_tensors((X, y)).repeat(problem.epochs)

    def draws() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in range(problem.epochs):
            yield problem.order(epoch), augmentation.draw(problem, epoch)

    def batch(step: Any, order: Any, changes: Any) -> tuple[Any, Any]:
        rows = slice(step * problem.batch_size, (step + 1) * problem.batch_size)
        samples = tf.gather(X, order[rows])
        if augmentation.wanted(problem):
            samples = augmentation.apply(samples, changes[rows], problem.augmentation.shift)
        return samples, tf.gather(y, order[rows])

    def epoch_batches(order: Any, changes: Any) -> Any:
        steps = tf.data.Dataset.range(problem.steps_per_epoch)
        return steps.map(lambda step: batch(step, order, changes))

    signature = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 3), tf.int32))
    dataset = tf.data.Dataset.from_generator(draws, output_signature=signature).flat_map(epoch_batches)
    steps = problem.steps_per_epoch * problem.epochs
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)
