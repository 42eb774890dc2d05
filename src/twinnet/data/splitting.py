"""Which rows train and which are held out, and how features are scaled: pure functions of arrays."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from twinnet.errors import DataError


def split_rows(
    rows: int,
    fraction: float,
    seed: int,
    *,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation rows, drawn as scikit-learn's train_test_split draws them.

    `labels` (rows,) keeps their proportions on both sides; `groups` (rows,) keeps equal values on one side.
    Raises DataError where there are too few rows, rows of a class, or groups.
    """
    try:
        if groups is None:
            train, valid = train_test_split(np.arange(rows), test_size=fraction, random_state=seed, stratify=labels)
            return train, valid
        splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        return next(splitter.split(np.zeros(rows), groups=groups))
    except ValueError as error:
        raise DataError(f"valid_fraction={fraction} cannot split {rows} rows: {error}") from error


def standardisation(X_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the training split, by feature (tables) or by channel (images), float64.

    A feature that does not vary has the scale 1.
    """
    axes = tuple(range(X_train.ndim - 1))
    mean = X_train.mean(axis=axes, dtype=np.float64)
    scale = X_train.std(axis=axes, dtype=np.float64)
    return mean, np.where(scale > 0, scale, 1.0)
