"""Targets, and batches for Keras `fit` on TensorFlow, in the problem's order."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from keras import ops

from twinnet.core import augmentation
from twinnet.core.problem import Problem
from twinnet.core.schema import Loss, Task


def has_soft_targets(problem: Problem) -> bool:
    """Whether training spreads a target over several classes."""
    return bool(problem.label_smoothing) or augmentation.mixes_labels(problem)


def targets(problem: Problem, y: np.ndarray) -> np.ndarray:
    """Return targets for the loss: classes as integers (samples,) if it takes them, else numbers (samples, units)."""
    if problem.task is not Task.multiclass:
        return y.astype(problem.X_train.dtype).reshape(-1, 1)
    if problem.loss is Loss.categorical_crossentropy and not has_soft_targets(problem):
        return y.astype(np.int32)
    return np.eye(problem.network.shapes()[-1][0], dtype=problem.X_train.dtype)[y]


def training_targets(problem: Problem) -> np.ndarray:
    """Return the targets of the training split, smoothed: (1 - e) y + e / classes (Szegedy et al. 2016, section 7)."""
    y, smoothing = targets(problem, problem.y_train), problem.label_smoothing
    return y * (1 - smoothing) + smoothing / y.shape[-1] if smoothing else y


def dataset(problem: Problem, first_epoch: int = 0) -> Any:
    """The batches of all epochs from `first_epoch` on, one after the other, as a tf.data pipeline.

    Python draws the order once an epoch, TensorFlow gathers the batches beside the training.
    """
    tf = import_module("tensorflow")
    with tf.device("cpu:0"):
        X, y = tf.constant(problem.X_train), tf.constant(training_targets(problem))
    if augmentation.is_unchanging(problem):
        return tf.data.Dataset.from_tensors((X, y)).repeat(problem.epochs - first_epoch)

    def draws() -> Iterator[tuple[np.ndarray, augmentation.Sample]]:
        for epoch in range(first_epoch, problem.epochs):
            yield problem.order(epoch), augmentation.sample(problem, epoch)

    def batch(step: Any, order: Any, changes: augmentation.Sample) -> tuple[Any, Any]:
        rows = slice(step * problem.batch_size, (step + 1) * problem.batch_size)
        samples, labels = tf.gather(X, order[rows]), tf.gather(y, order[rows])
        return augmentation.augment(samples, labels, augmentation.take(changes, rows), problem.augmentation.shift, ops)

    def epoch_batches(order: Any, changes: augmentation.Sample) -> Any:
        steps = tf.data.Dataset.range(problem.steps_per_epoch)
        return steps.map(lambda step: batch(step, order, changes))

    drawn = {
        name: tf.TensorSpec((None, *values.shape[1:]), values.dtype)
        for name, values in augmentation.sample(problem, first_epoch).items()
    }
    signature = (tf.TensorSpec((None,), tf.int64), drawn)
    dataset = tf.data.Dataset.from_generator(draws, output_signature=signature).flat_map(epoch_batches)
    steps = problem.steps_per_epoch * (problem.epochs - first_epoch)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)
