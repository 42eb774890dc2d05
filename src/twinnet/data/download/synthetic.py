"""Synthetic data in the files of a data set whose sources cannot be reached."""

import gzip
from pathlib import Path

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, SyntheticKind
from twinnet.data.download import synthetic_images, synthetic_players
from twinnet.data.formats import idx

CLASSES = 10


def generate(dataset: Dataset, folder: Path) -> list[str]:
    """Write synthetic files, laid out as the real ones; return their names. Raises DataError if there are none."""
    folder.mkdir(parents=True)
    if isinstance(dataset, NBADataset):
        return synthetic_players.generate(dataset, folder)
    if isinstance(dataset, ImageDataset) and dataset.stand_in is not SyntheticKind.none:
        return _write_images(dataset, folder)
    raise DataError(f"{dataset.name}: expected a source of the data; it has no synthetic data; set TWINNET_MIRROR")


def _write_images(dataset: ImageDataset, folder: Path) -> list[str]:
    for seed, split in enumerate(("train", "test")):
        X, y = dataset.arrays.get(f"X_{split}"), dataset.arrays.get(f"y_{split}")
        if X is None or y is None:
            continue
        side = synthetic_images.SIDE
        if len(dataset.reading.classes or []) != CLASSES or list(X.shape[1:]) != [side, side] or X.member:
            raise DataError(
                f"{dataset.name}: synthetic images are of {CLASSES} classes, {side} x {side}, in IDX files; "
                "expected such arrays, or stand_in: none"
            )
        labels = np.random.default_rng(seed).permutation(np.arange(X.shape[0]) % CLASSES)
        pictures = synthetic_images.draw(dataset.stand_in, labels, seed)
        for array, values in ((X, pictures), (y, labels)):
            packed = gzip.compress(idx.encode_idx(values), compresslevel=1, mtime=0)
            (folder / array.file).write_bytes(packed)
    return list(dataset.files)
