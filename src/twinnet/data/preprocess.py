"""data/raw/<name>/ to data/processed/: the arrays of each split, and the table of players."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, ImageData, ImageDataset, NBADataset, TableData, Task
from twinnet.data.formats import idx, nba
from twinnet.training.splitting import split_table

log = logging.getLogger(__name__)


def preprocess_dataset(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Write data/processed/<name>.npz: X_train y_train X_valid y_valid [X_test y_test], as `reading` splits.

    Images are uint8 (samples, height, width), the validation images first in the order of the original file; table
    features are float64 (samples, features). Raises DataError where the raw data is missing or not what it claims.
    """
    recorded = provenance.read(dataset.name, root)
    raw = root / paths.RAW / dataset.name
    with _whole(dataset):
        if isinstance(dataset, ImageDataset) and isinstance(dataset.reading, ImageData):
            arrays = _images(idx.read(dataset, raw, pinned=recorded.source != "synthetic"), dataset.reading)
        elif isinstance(dataset, NBADataset) and isinstance(dataset.reading, TableData):
            arrays = split_table(nba.table(dataset, raw), dataset.reading)
            if dataset.reading.task is not Task.regression:
                arrays |= {name: y.astype(np.int64) for name, y in arrays.items() if name.startswith("y_")}
        else:
            raise DataError(f"datasets.{dataset.name}: {dataset.kind} cannot be read as {dataset.reading.kind}")
    path = root / paths.PROCESSED / f"{dataset.name}.npz"
    _replace(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
    sizes = ", ".join(f"{name[2:]} {len(y)}" for name, y in arrays.items() if name.startswith("y_"))
    log.info("%s: %s -> %s", dataset.name, sizes, path.relative_to(root))
    return path


def tabulate(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Write data/processed/<reading.file>: the table of players; raises DataError likewise."""
    if not isinstance(dataset, NBADataset):
        raise DataError(f"datasets.{dataset.name}: expected a table to write; received {dataset.kind}")
    provenance.read(dataset.name, root)
    with _whole(dataset):
        table = nba.table(dataset, root / paths.RAW / dataset.name)
    path = root / paths.PROCESSED / dataset.reading.file
    _replace(path, lambda file: file.write(table.to_csv(index=False, lineterminator="\n").encode()))
    log.info("%s: %d players, %d columns -> %s", dataset.name, len(table), table.shape[1], path.relative_to(root))
    return path


def _images(arrays: dict[str, np.ndarray], reading: ImageData) -> dict[str, np.ndarray]:
    held_out = reading.valid_samples
    if held_out >= len(arrays["y_train"]):
        raise DataError(f"valid_samples={held_out}: expected fewer than {len(arrays['y_train'])} training images")
    valid = {f"{name}_valid": arrays[f"{name}_train"][:held_out] for name in "Xy"}
    train = {f"{name}_train": arrays[f"{name}_train"][held_out:] for name in "Xy"}
    return train | valid | {name: array for name, array in arrays.items() if name.endswith("_test")}


@contextmanager
def _whole(dataset: Dataset) -> Iterator[None]:
    """Say which file of the raw data is missing, and what brings it back."""
    try:
        yield
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise DataError(
            f"expected {paths.RAW / dataset.name}/.../{name}; found none; run `dvc repro -f download@{dataset.name}`"
        ) from error


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name beside it, then put it in place."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
        os.replace(part, path)
    except OSError as error:  # no space, no permission, a file where a folder should be
        with suppress(OSError):
            part.unlink()
        raise DataError(f"expected to write {path}; {error.strerror}") from error
