"""Checks of a problem before any engine trains it; errors are one line."""

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.problem import Problem
from twinnet.core.schema import Task


def check(problem: Problem) -> None:
    """Raise DataError for numbers or labels that cannot be trained on."""
    for split, X, y in (
        ("train", problem.X_train, problem.y_train),
        ("valid", problem.X_valid, problem.y_valid),
    ):
        _check_finite(f"X_{split}", X)
        if problem.task is Task.regression:
            _check_finite(f"y_{split}", y)
        else:
            _check_labels(problem, f"y_{split}", y)
    if problem.task is not Task.regression and len(found := np.unique(problem.y_train)) < 2:
        raise DataError(
            f"y_train: expected at least two classes; received only class {found[0]}; add samples of another"
        )


def _check_finite(name: str, values: np.ndarray) -> None:
    if bad := int((~np.isfinite(values)).any(axis=tuple(range(1, values.ndim))).sum()):
        raise DataError(
            f"{name}: expected finite numbers; received NaN or infinity in {bad} of {len(values)} samples; "
            "remove them or fill them in"
        )


def _check_labels(problem: Problem, name: str, y: np.ndarray) -> None:
    units = problem.network.shapes()[-1][0]
    classes = units if problem.task is Task.multiclass else 2
    if unknown := sorted(set(np.unique(y).tolist()) - set(range(classes))):
        received = ", ".join(map(str, unknown[:5]))
        raise DataError(f"{name}: expected the classes 0 to {classes - 1}; received {received}")
