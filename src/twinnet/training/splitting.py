"""Which rows train and which are held out, and how features are scaled: pure functions of arrays."""

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from twinnet.core.errors import DataError
from twinnet.core.schema import Data, ImageData, TableData, Task

Arrays = dict[str, np.ndarray]  # X_train, y_train, X_valid, ...
SPLITS = ("train", "valid", "test")


def split_table(table: pd.DataFrame, data: TableData) -> Arrays:
    """X (samples, features) and y of the training and validation rows of a table; raises DataError."""
    X = np.column_stack([_column(table, name) for name in data.features])
    y = _column(table, data.target)
    rows = _rows(table, data)
    return {f"{name}_{split}": array[rows[split]] for split in rows for name, array in (("X", X), ("y", y))}


def split_images(arrays: Arrays, data: ImageData) -> Arrays:
    """The arrays of data/processed/<name>.npz with the validation images that `data` asks for; X gets its channels.

    There, the validation images stand before the training images in the order of the original file.
    """
    valid, train = len(arrays["y_valid"]), len(arrays["y_train"])
    if data.valid_samples >= valid + train:
        raise DataError(f"valid_samples={data.valid_samples}: expected fewer than the {valid + train} training images")
    if data.valid_samples != valid:
        for name in "Xy":
            both = np.concatenate([arrays.pop(f"{name}_valid"), arrays.pop(f"{name}_train")])
            arrays |= {f"{name}_valid": both[: data.valid_samples], f"{name}_train": both[data.valid_samples :]}
    kept = max(1, round(len(arrays["y_train"]) * data.train_fraction))
    arrays |= {name: arrays[name][:kept] for name in ("X_train", "y_train")}
    for name in [name for name in arrays if name.startswith("X_")]:
        expected, received = tuple(data.image_shape), arrays[name].shape[1:]
        if np.prod(expected) != np.prod(received):
            raise DataError(f"image_shape: expected {list(received)} as in {data.file}; received {list(expected)}")
        arrays[name] = arrays[name].reshape(-1, *expected)
    return arrays


def check_labels(arrays: Arrays, data: Data) -> None:
    """Raise DataError unless every label is a class, every split has rows, and the training split several classes."""
    for split in SPLITS:
        y = arrays.get(f"y_{split}")
        if y is None:
            continue
        if len(y) == 0 or len(y) != len(arrays[f"X_{split}"]):
            raise DataError(f"{data.file}: expected samples and as many labels in {split}; received {len(y)} labels")
        if data.task is Task.regression:
            continue
        classes = len(data.classes or [])
        if not np.isin(np.unique(y), np.arange(classes)).all():
            received = ", ".join(f"{label:g}" for label in np.unique(y)[:20])
            raise DataError(f"{data.file}: expected labels 0 to {classes - 1} in {split}; received {received}")
    if data.task is not Task.regression and len(np.unique(arrays["y_train"])) < 2:
        raise DataError(f"{data.file}: expected at least two classes to train on; received one")


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


def mean_and_std(X_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the training split, by feature (tables) or by channel (images), float64.

    A feature that does not vary has the scale 1.
    """
    if X_train.dtype == np.uint8:  # from the counts of the 256 values: no second copy of the images in float64
        counts = [np.bincount(X_train[..., channel].ravel(), minlength=256) for channel in range(X_train.shape[-1])]
        share = np.array(counts) / (X_train.size / X_train.shape[-1])
        values = np.arange(256.0)
        mean = share @ values
        scale = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    else:
        axes = tuple(range(X_train.ndim - 1))
        mean, scale = X_train.mean(axis=axes), X_train.std(axis=axes)
    return mean, np.where(scale > 0, scale, 1.0)


def _rows(table: pd.DataFrame, data: TableData) -> dict[str, np.ndarray]:
    several_seasons = "season" in table and table["season"].nunique() > 1
    split_by = data.split_by or ("season" if several_seasons else None)
    if split_by is not None and split_by not in table:
        raise DataError(f"split_by: expected one of {', '.join(table.columns)}; received {split_by!r}")
    if data.stratify and split_by is not None:
        raise DataError(f"stratify=true: expected a split by rows; received a split by {split_by}")
    train, valid = split_rows(
        len(table),
        data.valid_fraction,
        data.split_seed,
        labels=table[data.target].to_numpy() if data.stratify else None,
        groups=None if split_by is None else table[split_by].to_numpy(),
    )
    return {"train": train, "valid": valid}


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64, every value finite."""
    if name not in table:
        raise DataError(f"expected a column of the table: {', '.join(table.columns)}; received {name!r}")
    if not pd.api.types.is_numeric_dtype(table[name]):
        raise DataError(f"column {name!r}: expected numbers; received text such as {table[name].iloc[0]!r}")
    values = table[name].to_numpy(np.float64)
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"column {name!r}: expected finite numbers; {bad} of {len(values)} are missing or infinite")
    return values
