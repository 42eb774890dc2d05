"""Metrics of predictions.

`y_true` is (samples,); `y_prob` holds the activations of the output layer, (samples, units): the probability of
class 1 for a binary task (one unit), of each class for a multiclass one, the predicted value for regression.
"""

from collections.abc import Callable

import numpy as np

from twinnet.core.schema import Loss, Task

Predict = Callable[[np.ndarray], np.ndarray]


def class_probabilities(y_prob: np.ndarray) -> np.ndarray:
    """Probability of each class, (samples, classes), float64; one unit is the probability of class 1."""
    y_prob = np.asarray(y_prob, dtype=float)
    return np.hstack([1 - y_prob, y_prob]) if y_prob.shape[1] == 1 else y_prob


def predicted_classes(y_prob: np.ndarray) -> np.ndarray:
    """The most probable class of each sample, (samples,); exactly one half on one unit is class 0."""
    return class_probabilities(y_prob).argmax(axis=1)


def count_confusions(y_true: np.ndarray, y_pred: np.ndarray, classes: int) -> np.ndarray:
    """Return how many samples of each true class (row) were predicted as each class (column)."""
    pairs = np.asarray(y_true, dtype=int) * classes + np.asarray(y_pred, dtype=int)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def compute_metrics(task: Task, loss: Loss, y_true: np.ndarray, y_prob: np.ndarray) -> dict[str, float]:
    """`loss`, the mean of the trained loss over the samples, and `accuracy` (`mae` for regression).

    Probabilities are kept away from 0 and 1 by the resolution of their own dtype, so that a loss is always finite.
    Penalties on the weights are no part of it.
    """
    if task is Task.regression:
        values = np.asarray(y_prob, dtype=float)[:, 0]
        return {
            "loss": float(np.mean((y_true - values) ** 2)),
            "mae": float(np.mean(np.abs(y_true - values))),
        }
    y_true = np.asarray(y_true, dtype=int)
    return {
        "loss": _class_loss(loss, y_true, np.asarray(y_prob)),
        "accuracy": float(np.mean(y_true == predicted_classes(y_prob))),
    }


def _class_loss(loss: Loss, y_true: np.ndarray, y_prob: np.ndarray) -> float:
    units = y_prob.shape[1]
    targets = y_true[:, None] if units == 1 else np.eye(units)[y_true]
    if loss is Loss.mean_squared_error:
        return float(np.mean(np.mean((targets - np.asarray(y_prob, dtype=float)) ** 2, axis=0)))
    if loss is Loss.categorical_crossentropy and units == 1:
        return 0.0  # the one output is normalised to 1, whose logarithm is 0 for every sample
    epsilon = np.finfo(y_prob.dtype).eps if np.issubdtype(y_prob.dtype, np.floating) else np.finfo(float).eps
    probabilities = np.clip(class_probabilities(y_prob), epsilon, 1 - epsilon)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return float(np.mean(-np.log(probabilities[np.arange(len(y_true)), y_true])))
