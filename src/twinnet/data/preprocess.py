"""data/raw/<name>/ to data/processed/<name>/: one file of arrays or one table, and its provenance."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twinnet.core import paths, provenance, rules
from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, ImageData, ImageDataset, NBADataset, TableData, TableDataset
from twinnet.data.formats import idx, nba, table

log = logging.getLogger(__name__)


def preprocess_dataset(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Write data/processed/<name>/; return its file.

    Images: arrays.npz with X_train, y_train [, X_test, y_test], uint8, X (samples, height, width). Tables: table.csv,
    one row a sample. provenance.json beside it is that of the raw data with the SHA-256 of the file.
    Raises DataError if the raw data is missing or not what it claims to be.
    """
    recorded = provenance.read(dataset.name, root)
    raw = root / paths.RAW / dataset.name
    rules.check_file(dataset.reading)
    try:
        if isinstance(dataset, ImageDataset) and isinstance(dataset.reading, ImageData):
            content, sizes = _archive(idx.read(dataset, raw, pinned=recorded.source != provenance.SYNTHETIC))
        elif isinstance(dataset, NBADataset | TableDataset) and isinstance(dataset.reading, TableData):
            rows = nba.table(dataset, raw) if isinstance(dataset, NBADataset) else table.read(dataset, raw)
            content, sizes = rows.to_csv(index=False, lineterminator="\n").encode(), f"{len(rows)} rows"
        else:
            raise DataError(f"datasets.{dataset.name}: {dataset.kind} cannot be read as {dataset.reading.kind}")
    except FileNotFoundError as error:
        raise DataError(
            f"expected {paths.RAW / dataset.name}/.../{Path(error.filename).name}; found none; "
            f"run `dvc repro -f download@{dataset.name}`"
        ) from error
    file = provenance.write_processed(root, dataset.reading.file, content, recorded)
    log.info("%s: %s -> %s", dataset.name, sizes, file.relative_to(root))
    return file


def _archive(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, str]:
    """Return an .npz archive of the arrays, and how many samples each split has."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    sizes = [f"{name[2:]} {len(array)}" for name, array in arrays.items() if name.startswith("y_")]
    return packed.getvalue(), ", ".join(sizes)
