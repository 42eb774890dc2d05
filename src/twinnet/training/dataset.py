"""What an experiment trains on, read from data/processed/ as its `data` says."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError
from twinnet.core.schema import Data, ImageData, Scaling, TableData, Task
from twinnet.core.splits import Splits
from twinnet.training.splitting import SPLITS, Arrays, check_labels, mean_and_std, split_images, split_table


def load_splits(data: Data, *, root: Path = Path("."), dtype: str = "float32", samples: int | None = None) -> Splits:
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
    return Splits(**splits, source=source, digest=digest, mean=mean, scale=std)  # type: ignore[arg-type]  # train and valid are there


def _scaling(X_train: np.ndarray, data: Data) -> tuple[np.ndarray, np.ndarray]:
    if data.scaling is Scaling.standard:
        return mean_and_std(X_train)
    features = X_train.shape[-1]
    return np.zeros(features), np.full(features, 255.0 if data.scaling is Scaling.unit else 1.0)


def scale(X: np.ndarray, mean: np.ndarray, std: np.ndarray, dtype: str) -> np.ndarray:
    """Return (X - mean) / std in `dtype`, computed in place on the one copy that has the new type."""
    X = X.astype(dtype)
    if mean.any():
        X -= mean.astype(dtype)
    if (std != 1).any():
        X /= std.astype(dtype)
    return X


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: expected a table with a header; {error}") from error


def _read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path.name}: expected an .npz archive of arrays; {error}") from error
    if missing := {f"{name}_{split}" for name in "Xy" for split in ("train", "valid")} - set(arrays):
        raise DataError(f"{path.name}: expected the arrays {', '.join(sorted(missing))}; they are missing")
    return arrays


def _command(data: Data) -> str:
    return "dvc repro tabulate" if isinstance(data, TableData) else f"dvc repro preprocess@{data.name}"
