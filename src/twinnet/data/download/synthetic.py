"""The stand-in for a data set whose sources cannot be reached; see standin_players and standin_images."""

import gzip
from pathlib import Path

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, StandIn
from twinnet.data.download import synthetic_images, synthetic_players
from twinnet.data.formats import idx

NOTE = "This is stand-in data, drawn by a program: no source of the real data answered or was asked."
CLASSES = 10


def write(dataset: Dataset, folder: Path) -> list[str]:
    """Write the files of the stand-in, laid out as the real ones are; raises DataError where there is none."""
    folder.mkdir(parents=True)
    if isinstance(dataset, NBADataset):
        return synthetic_players.write(dataset, folder)
    if isinstance(dataset, ImageDataset) and dataset.stand_in is not StandIn.none:
        return _write_images(dataset, folder)
    raise DataError(f"{dataset.name}: expected a source of the data; it has no stand-in; set TWINNET_MIRROR")


def _write_images(dataset: ImageDataset, folder: Path) -> list[str]:
    for seed, split in enumerate(("train", "test")):
        X, y = dataset.arrays.get(f"X_{split}"), dataset.arrays.get(f"y_{split}")
        if X is None or y is None:
            continue
        side = synthetic_images.SIDE
        if len(dataset.reading.classes or []) != CLASSES or list(X.shape[1:]) != [side, side] or X.member:
            raise DataError(
                f"{dataset.name}: the stand-in has {CLASSES} classes of {side} x {side} images in IDX files"
            )
        labels = np.random.default_rng(seed).permutation(np.arange(X.shape[0]) % CLASSES)
        pictures = synthetic_images.draw(dataset.stand_in, labels, seed)
        for array, values in ((X, pictures), (y, labels)):
            packed = gzip.compress(idx.encode_idx(values), compresslevel=1, mtime=0)
            (folder / array.file).write_bytes(packed)
    return list(dataset.files)
