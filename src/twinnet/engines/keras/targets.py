"""Targets as Keras' losses take them."""

import numpy as np

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
