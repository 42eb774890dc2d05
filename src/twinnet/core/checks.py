"""Checks of a problem before any engine trains it; errors are one line."""

import numpy as np

from twinnet.core.errors import ConfigError, DataError
from twinnet.core.problem import Problem
from twinnet.core.schema import Loss, Task


def check(problem: Problem) -> None:
    """Raise DataError for arrays that cannot be trained on, ConfigError for weights or a batch that do not fit."""
    _check_weights(problem)
    for split, X, y in (
        ("train", problem.X_train, problem.y_train),
        ("valid", problem.X_valid, problem.y_valid),
    ):
        _check_samples(problem, split, X, y)
        _check_labels(problem, split, y)
    if problem.task is not Task.regression and len(found := np.unique(problem.y_train)) < 2:
        raise DataError(
            f"y_train: expected at least two classes; received only class {found[0]}; add samples of another"
        )
    if not 1 <= problem.batch_size <= len(problem.X_train):
        raise ConfigError(
            f"batch_size: expected 1 to {len(problem.X_train)}, the training samples; received {problem.batch_size}"
        )
    if problem.epochs < 1:
        raise ConfigError(f"epochs: expected at least 1; received {problem.epochs}")


def _check_samples(problem: Problem, split: str, X: np.ndarray, y: np.ndarray) -> None:
    expected = " x ".join(map(str, ("samples", *problem.network.input_shape)))
    if X.shape[1:] != problem.network.input_shape or X.ndim < 2:
        raise DataError(f"X_{split}: expected {expected}; received an array of shape {X.shape}")
    if not len(X):
        raise DataError(f"X_{split}: expected at least one sample; received none")
    if y.shape != (len(X),):
        raise DataError(f"y_{split}: expected one target for each of {len(X)} samples; received shape {y.shape}")
    if bad := int((~np.isfinite(X)).any(axis=tuple(range(1, X.ndim))).sum()):
        raise DataError(
            f"X_{split}: expected finite numbers; received NaN or infinity in {bad} of {len(X)} samples; "
            "remove them or fill them in"
        )


def _check_labels(problem: Problem, split: str, y: np.ndarray) -> None:
    if problem.task is Task.regression:
        if bad := int((~np.isfinite(y)).sum()):
            raise DataError(f"y_{split}: expected finite numbers; received NaN or infinity {bad} times")
        return
    units = problem.network.shapes()[-1][0]
    classes = units if problem.task is Task.multiclass else 2
    if unknown := sorted(set(np.unique(y).tolist()) - set(range(classes))):
        received = ", ".join(map(str, unknown[:5]))
        raise DataError(f"y_{split}: expected the classes 0 to {classes - 1}; received {received}")


def _check_weights(problem: Problem) -> None:
    network, shapes = problem.network, problem.network.shapes()
    expected = [layer.weight_shapes(shape) for layer, shape in zip(network.layers, shapes, strict=False)]
    received = [{name: value.shape for name, value in layer.items()} for layer in problem.weights]
    if expected != received:
        raise ConfigError(f"weights: expected the shapes {expected}; received {received}")
    units = shapes[-1][0]
    if (problem.task is Task.multiclass) == (units == 1) or (problem.loss is Loss.binary_crossentropy and units != 1):
        raise ConfigError(
            f"network: expected an output layer for a {problem.task} task with {problem.loss}; received {units} units"
        )
