"""The first source that gives a data set whole and verified, to data/raw/<name>/."""

import gzip
import logging
import os
import shutil
import tempfile
from math import prod
from pathlib import Path

import numpy as np
from filelock import FileLock

from twinnet import paths
from twinnet.config.schema import Dataset, ImageDataset, NBADataset, SourcePolicy, StandIn
from twinnet.data import archives, provenance, standin_images, standin_players, tables
from twinnet.data.provenance import Provenance
from twinnet.data.sources import MIRROR, Remote, locator
from twinnet.data.transport import Client, SourceError
from twinnet.errors import ConfigError, DataError

log = logging.getLogger(__name__)

CACHE = Path("data/cache")
SYNTHETIC = "synthetic"
NOTE = "This is stand-in data, drawn by a program: no source of the real data answered or was asked."


def download(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Fill data/raw/<name>/ from the first of `dataset.sources` whose files pass; returns the folder.

    The folder appears under its name only when it is complete and verified; what lay there before stays otherwise.
    Where no host at all answers and `source` is auto, the stand-in takes its place and says so.
    Raises DataError naming each source with its reason where there is no data.
    """
    target = root / paths.RAW / dataset.name
    cache = Path(os.environ.get("DVC_ROOT") or root) / CACHE / dataset.name
    cache.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(cache.parent / f"{dataset.name}.lock"),
        tempfile.TemporaryDirectory(prefix=f".{dataset.name}-", dir=target.parent, ignore_cleanup_errors=True) as made,
    ):
        folder = Path(made) / dataset.name
        if dataset.source is SourcePolicy.synthetic:
            record = _stand_in(dataset, folder)
        else:
            record = _real(dataset, folder, Client(dataset.transport, cache)) or _stand_in(dataset, folder)
        provenance.write(folder, record)
        _put(folder, target, Path(made) / "replaced")
    size = sum(file.bytes for file in record.files)
    log.info(
        "%s: %s, %d files, %.1f MB, %s",
        dataset.name,
        record.source,
        len(record.files),
        size / 1e6,
        record.files[0].address,
    )
    return target


def verify(dataset: Dataset, folder: Path, *, pinned: bool = True) -> None:
    """Raise DataError where the files in `folder` are not the data set."""
    if isinstance(dataset, NBADataset):
        tables.table(dataset, folder)
    elif isinstance(dataset, ImageDataset):
        archives.read(dataset, folder, pinned=pinned)


def _real(dataset: Dataset, folder: Path, client: Client) -> Provenance | None:
    """From the first source that has it; None where nobody answered and a stand-in is allowed."""
    reasons, answered = [], False
    for name, source in dataset.sources.items():
        where = locator(source)
        remotes = where.remotes(source, dataset)
        if not remotes:
            reasons.append(f"{name}: {MIRROR} is not set")
            continue
        shutil.rmtree(folder, ignore_errors=True)
        try:
            for remote in remotes:
                client.fetch(remote, folder / remote.name, most_bytes(dataset, remote))
            verify(dataset, folder)
            files = tuple(provenance.raw_file(folder, remote.name, remote.recorded) for remote in remotes)
            return Provenance(dataset.name, where.origin, dataset.licence, "", files)
        except SourceError as error:
            reason, answered = str(error), answered or error.answered
        except DataError as error:
            reason, answered = str(error), True
        log.warning("%s: %s: %s", dataset.name, name, reason)
        reasons.append(f"{name}: {reason}")
    shutil.rmtree(folder, ignore_errors=True)
    told = "; ".join(reasons) or "no sources are listed"
    if answered or dataset.source is SourcePolicy.real:
        raise DataError(
            f"{dataset.name}: no source gave the data: {told}; set {MIRROR} to a folder or address that has it, "
            f"or datasets.{dataset.name}.source=synthetic for stand-in data"
        )
    log.warning("%s: nobody answered (%s)", dataset.name, told)
    return None


def most_bytes(dataset: Dataset, remote: Remote) -> int:
    """How large a file may be as it travels: for a known array its own size, since compression makes it smaller."""
    if not isinstance(dataset, ImageDataset):
        return dataset.transport.max_bytes
    values = sum(prod(array.shape) for array in dataset.arrays.values() if array.file == remote.name)
    return 8 * values + (1 << 16)


def _stand_in(dataset: Dataset, folder: Path) -> Provenance:
    folder.mkdir(parents=True)
    if isinstance(dataset, NBADataset):
        names = standin_players.write(dataset, folder)
    elif isinstance(dataset, ImageDataset) and dataset.stand_in is not StandIn.none:
        names = _stand_in_images(dataset, folder)
    else:
        raise DataError(f"{dataset.name}: there is no stand-in for it, and nobody answered; set {MIRROR}")
    verify(dataset, folder, pinned=False)
    log.warning("%s: STAND-IN DATA. %s", dataset.name, NOTE)
    files = tuple(provenance.raw_file(folder, name, "drawn by twinnet") for name in names)
    return Provenance(dataset.name, SYNTHETIC, "MIT", NOTE, files)


def _stand_in_images(dataset: ImageDataset, folder: Path) -> list[str]:
    classes = len(dataset.reading.classes or [])
    for seed, split in enumerate(("train", "test")):
        X, y = dataset.arrays.get(f"X_{split}"), dataset.arrays.get(f"y_{split}")
        if X is None or y is None:
            continue
        if classes != 10 or list(X.shape[1:]) != [standin_images.SIDE] * 2 or X.member:
            raise ConfigError(f"datasets.{dataset.name}.stand_in: expected 10 classes of 28 x 28 images in IDX files")
        labels = np.random.default_rng(seed).permutation(np.arange(X.shape[0]) % classes)
        for array, values in ((X, standin_images.draw(dataset.stand_in, labels, seed)), (y, labels)):
            packed = gzip.compress(archives.encode_idx(values), compresslevel=1, mtime=0)
            (folder / array.file).write_bytes(packed)
    return list(dataset.files)


def _put(folder: Path, target: Path, replaced: Path) -> None:
    """Move a complete folder to its place; the one that lay there goes with the temporary folder."""
    if target.exists():
        os.replace(target, replaced)
    os.replace(folder, target)
