"""Read data/processed/<name>/ as an experiment's `data` says: checked, split into train, valid and test, and scaled."""

import hashlib
import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from twinnet.core import paths, provenance, rules
from twinnet.core.errors import DataError
from twinnet.core.provenance import Provenance
from twinnet.core.schema import Data, ImageData, Scaling, TableData, Task
from twinnet.core.splits import Splits

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]  # X_train, y_train, X_valid, ...
SPLITS = ("train", "valid", "test")


def load_splits(data: Data, *, root: Path = Path("."), dtype: str = "float32", samples: int | None = None) -> Splits:
    """Return the splits of a processed data set under `root`, features in `dtype`, at most `samples` rows in each.

    Raises DataError if the file is missing or is not the one that `preprocess` wrote (naming the command that makes
    it), or if its values cannot be trained on.
    """
    content, recorded = _read(data, root)
    if isinstance(data, ImageData):
        arrays = split_images(_parse_arrays(content, data), data)
    elif isinstance(data, TableData):
        arrays = split_table(_parse_table(content, data), data)
    else:
        raise TypeError(f"no reader for {type(data).__name__}")
    del content
    check_labels(arrays, data)
    # The scaling is that of the training split whatever the cap, so that a smoke run scales as the suite does.
    mean, std = _scaling(arrays["X_train"], data)
    splits: dict[str, np.ndarray | None] = {}
    for split in SPLITS:
        X, y = arrays.pop(f"X_{split}", None), arrays.pop(f"y_{split}", None)
        splits[f"X_{split}"] = None if X is None else scale(X[:samples], mean, std, dtype)
        label_type = dtype if data.task is Task.regression else "int64"
        splits[f"y_{split}"] = None if y is None else y[:samples].astype(label_type)
        del X, y
    digest = recorded.processed[data.file]
    return Splits(**splits, source=recorded.source, digest=digest, mean=mean, scale=std)  # type: ignore[arg-type]  # train and valid are there


def read_table(data: TableData, root: Path = Path(".")) -> "pd.DataFrame":
    """Return a processed table, checked against its provenance; raises DataError."""
    return _parse_table(_read(data, root)[0], data)


def processed_file(data: Data) -> Path:
    """Return the path of the file that `data` reads, relative to the root; raises ConfigError for another `file`."""
    rules.check_file(data)
    return paths.PROCESSED / data.name / data.file


def _read(data: Data, root: Path) -> tuple[bytes, Provenance]:
    """Return the processed file and its provenance, which holds the SHA-256 of these very bytes."""
    file, command = processed_file(data), f"dvc repro preprocess@{data.name}"
    recorded = provenance.read(data.name, root, paths.PROCESSED)
    try:
        content = (root / file).read_bytes()
    except OSError as error:
        raise DataError(f"expected {file}; found none; run `{command}`") from error
    expected, received = recorded.processed.get(data.file), hashlib.sha256(content).hexdigest()
    if received != expected:
        raise DataError(
            f"{file}: expected the SHA-256 {expected} of its {provenance.NAME}; received {received}; run `{command}`"
        )
    return content, recorded


def _parse_table(content: bytes, data: TableData) -> "pd.DataFrame":
    import pandas as pd  # 0.3 s

    try:
        return pd.read_csv(BytesIO(content), keep_default_na=False, na_values=[""], encoding="utf-8", low_memory=False)
    except ValueError as error:
        raise DataError(f"{processed_file(data)}: expected a table with a header; {error}") from error


def _parse_arrays(content: bytes, data: ImageData) -> Arrays:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{processed_file(data)}: expected an .npz archive of arrays; {error}") from error
    if missing := {"X_train", "y_train"} - set(arrays):
        raise DataError(f"{processed_file(data)}: expected the arrays {', '.join(sorted(missing))}; they are missing")
    return arrays


# ------------------------------------------------------------------------------------------------- splits


def split_table(table: "pd.DataFrame", data: TableData) -> Arrays:
    """Return X (samples, features) and y of the training and validation rows of a table; raises DataError."""
    X = np.column_stack([_column(table, name) for name in data.features])
    y = _column(table, data.target)
    rows = _rows(table, data)
    return {f"{name}_{split}": array[rows[split]] for split in rows for name, array in (("X", X), ("y", y))}


def split_images(arrays: Arrays, data: ImageData) -> Arrays:
    """Return the arrays with the first `valid_samples` training images as validation split; X gets its channels."""
    held_out, available = data.valid_samples, len(arrays["y_train"])
    if held_out >= available:
        raise DataError(f"valid_samples={held_out}: expected fewer than the {available} training images")
    end = held_out + max(1, round((available - held_out) * data.train_fraction))
    rows = {"valid": slice(held_out), "train": slice(held_out, end)}
    split = {f"{name}_{part}": arrays[f"{name}_train"][cut] for part, cut in rows.items() for name in "Xy"}
    split |= {name: array for name, array in arrays.items() if name.endswith("_test")}
    for name in [name for name in split if name.startswith("X_")]:
        expected, received = tuple(data.image_shape), split[name].shape[1:]
        if received != expected and (*received, 1) != expected and received != (math.prod(expected),):
            raise DataError(f"image_shape: expected {list(received)} as in {data.name}; received {list(expected)}")
        split[name] = split[name].reshape(-1, *expected)
    return split


def split_rows(
    rows: int,
    fraction: float,
    seed: int,
    *,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of the training and of the validation rows, drawn as scikit-learn's train_test_split draws them.

    `labels` (rows,) keeps their proportions on both sides; `groups` (rows,) keeps equal values on one side.
    Raises DataError if there are too few rows, rows of a class, or groups.
    """
    if groups is None and labels is None:
        held_out = math.ceil(fraction * rows)
        if not 0 < held_out < rows:
            raise DataError(f"valid_fraction={fraction} cannot split {rows} rows: expected rows on both sides")
        shuffled = np.random.RandomState(seed).permutation(rows)
        return shuffled[held_out:], shuffled[:held_out]
    from sklearn.model_selection import GroupShuffleSplit, train_test_split  # 0.7 s

    try:
        if groups is None:
            train, valid = train_test_split(np.arange(rows), test_size=fraction, random_state=seed, stratify=labels)
            return train, valid
        splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        return next(splitter.split(np.zeros(rows), groups=groups))
    except ValueError as error:
        raise DataError(f"valid_fraction={fraction} cannot split {rows} rows: {error}") from error


def check_labels(arrays: Arrays, data: Data) -> None:
    """Raise DataError unless every label is a class, every split has rows, and the training split several classes."""
    for split in SPLITS:
        y = arrays.get(f"y_{split}")
        if y is None:
            continue
        if len(y) == 0 or len(y) != len(arrays[f"X_{split}"]):
            raise DataError(f"{data.name}: expected samples and as many labels in {split}; received {len(y)} labels")
        if data.task is Task.regression:
            continue
        classes = len(data.classes or [])
        if not np.isin(np.unique(y), np.arange(classes)).all():
            received = ", ".join(f"{label:g}" for label in np.unique(y)[:20])
            raise DataError(f"{data.name}: expected labels 0 to {classes - 1} in {split}; received {received}")
    if data.task is Task.regression:
        return
    if len(np.unique(arrays["y_train"])) < 2:
        raise DataError(f"{data.name}: expected at least two classes to train on; received one")
    highest = max(int(arrays[f"y_{split}"].max()) for split in SPLITS if f"y_{split}" in arrays)
    if highest + 1 < len(data.classes or []):
        raise DataError(
            f"data.classes: expected {highest + 1} names, as the labels of {data.name} are 0 to {highest}; "
            f"received {len(data.classes or [])}"
        )


def _rows(table: "pd.DataFrame", data: TableData) -> dict[str, np.ndarray]:
    if data.split_by is not None and data.split_by not in table:
        raise DataError(f"split_by: expected one of {', '.join(table.columns)}; received {data.split_by!r}")
    groups = None
    if data.split_by is not None and table[data.split_by].nunique(dropna=False) > 1:
        groups = table[data.split_by].factorize(sort=True, use_na_sentinel=False)[0]  # rows without a value: one group
    if data.stratify and groups is not None:
        raise DataError(f"stratify=true: expected a split by rows; received a split by {data.split_by}")
    train, valid = split_rows(
        len(table),
        data.valid_fraction,
        data.split_seed,
        labels=table[data.target].to_numpy() if data.stratify else None,
        groups=groups,
    )
    return {"train": train, "valid": valid}


def _column(table: "pd.DataFrame", name: str) -> np.ndarray:
    """Return a column as float64, every value finite."""
    if name not in table:
        raise DataError(f"expected a column of the table: {', '.join(table.columns)}; received {name!r}")
    if table[name].dtype.kind not in "biuf":
        raise DataError(f"column {name!r}: expected numbers; received text such as {table[name].iloc[0]!r}")
    values = table[name].to_numpy(np.float64)
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"column {name!r}: expected finite numbers; {bad} of {len(values)} are missing or infinite")
    return values


# ------------------------------------------------------------------------------------------------ scaling


def scale(X: np.ndarray, mean: np.ndarray, std: np.ndarray, dtype: str) -> np.ndarray:
    """Return (X - mean) / std in `dtype`, computed in place on the one copy that has the new type."""
    X = X.astype(dtype)
    if mean.any():
        X -= mean.astype(dtype)
    if (std != 1).any():
        X /= std.astype(dtype)
    return X


def mean_and_std(X_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the training split, by feature (tables) or channel (images), float64.

    A feature that does not vary has the scale 1.
    """
    if X_train.dtype == np.uint8:  # from the counts of the 256 values: no second copy of the images in float64
        counts = [np.bincount(X_train[..., channel].ravel(), minlength=256) for channel in range(X_train.shape[-1])]
        share = np.array(counts) / (X_train.size / X_train.shape[-1])
        values = np.arange(256.0)
        mean = share @ values
        std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    else:
        axes = tuple(range(X_train.ndim - 1))
        mean, std = X_train.mean(axis=axes), X_train.std(axis=axes)
    return mean, np.where(std > 0, std, 1.0)


def _scaling(X_train: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    if data.scaling is Scaling.standard:
        return mean_and_std(X_train)
    features = X_train.shape[-1]
    return np.zeros(features), np.full(features, 255.0 if data.scaling is Scaling.unit else 1.0)
