"""What an experiment trains on, read from data/processed/ as its `data` says."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from twinnet import paths
from twinnet.config.schema import Data, ImageData, Scaling, TableData, Task
from twinnet.data import provenance
from twinnet.data.splits import Splits
from twinnet.data.splitting import split_rows, standardisation
from twinnet.errors import DataError

Arrays = dict[str, np.ndarray]  # X_train, y_train, X_valid, ...
SPLITS = ("train", "valid", "test")


def load(data: Data, *, root: Path = Path("."), dtype: str = "float32", samples: int | None = None) -> Splits:
    """The splits of data/processed/<data.file> under `root`, features in `dtype`, at most `samples` rows in each.

    Raises DataError where the file is missing (naming the command that makes it) or its values cannot be trained on.
    """
    path = root / paths.PROCESSED / data.file
    source = provenance.read(data.name, root).source
    try:
        if isinstance(data, ImageData):
            arrays = split_images(_read_arrays(path), data)
        elif isinstance(data, TableData):
            arrays = split_table(_read_table(path), data)
        else:
            raise TypeError(f"no reader for {type(data).__name__}")
        digest = provenance.sha256(path)
    except FileNotFoundError as error:
        raise DataError(f"expected {paths.PROCESSED / data.file}; found none; run `{_command(data)}`") from error
    _check_labels(arrays, data)
    # The scaling is that of the training split whatever the cap, so that a smoke run scales as the suite does.
    mean, scale = _scaling(arrays["X_train"], data)
    splits: dict[str, np.ndarray | None] = {}
    for split in SPLITS:
        X, y = arrays.pop(f"X_{split}", None), arrays.pop(f"y_{split}", None)
        splits[f"X_{split}"] = None if X is None else _scaled(X[:samples], mean, scale, dtype)
        label_type = dtype if data.task is Task.regression else "int64"
        splits[f"y_{split}"] = None if y is None else y[:samples].astype(label_type)
        del X, y
    return Splits(**splits, source=source, digest=digest, mean=mean, scale=scale)  # type: ignore[arg-type]  # train and valid are there


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


def _rows(table: pd.DataFrame, data: TableData) -> dict[str, np.ndarray]:
    several_seasons = "season" in table and table["season"].nunique() > 1
    split_by = data.split_by or ("season" if several_seasons else None)
    if split_by is not None and split_by not in table:
        raise DataError(f"split_by: expected one of {', '.join(table.columns)}; received {split_by!r}")
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


def _check_labels(arrays: Arrays, data: Data) -> None:
    """Every label is a class, every split has rows, and the training split more than one class."""
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


def _scaling(X_train: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    if data.scaling is Scaling.standard:
        return standardisation(X_train)
    features = X_train.shape[-1]
    return np.zeros(features), np.full(features, 255.0 if data.scaling is Scaling.unit else 1.0)


def _scaled(X: np.ndarray, mean: np.ndarray, scale: np.ndarray, dtype: str) -> np.ndarray:
    """(X - mean) / scale, computed in place on the one copy that has the new type."""
    scaled = X.astype(dtype)
    if mean.any():
        scaled -= mean.astype(dtype)
    if (scale != 1).any():
        scaled /= scale.astype(dtype)
    return scaled


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: expected a table with a header; {error}") from error


def _read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path.name}: expected an .npz archive of arrays; {error}") from error


def _command(data: Data) -> str:
    return "dvc repro tabulate" if isinstance(data, TableData) else f"dvc repro preprocess@{data.name}"
