"""The first source that gives a data set whole and verified, to data/raw/<name>/."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError
from twinnet.core.provenance import Provenance
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, Source, SourcePolicy
from twinnet.data.download import drift, synthetic
from twinnet.data.download.fetch import Client, SourceError
from twinnet.data.download.places import Places
from twinnet.data.download.sources import MIRROR, Remote, locator
from twinnet.data.formats import idx, nba

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"


def download_dataset(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Fill data/raw/<name>/ from the first of `dataset.sources` whose files pass; returns the folder.

    The folder appears under its name only when it is complete and verified; what lay there before stays otherwise.
    Where no host at all answers and `source` is auto, the stand-in takes its place and says so.
    Raises DataError naming each source with its reason where there is no data.
    """
    try:
        record = _download(dataset, Places.of(dataset, root))
    except OSError as error:  # no space, no permission, a file where a folder should be
        raise DataError(f"{dataset.name}: expected to write {error.filename}; {error.strerror}") from error
    size, first = sum(file.bytes for file in record.files), record.files[0].address
    log.info("%s: %s, %d files, %.1f MB, %s", dataset.name, record.source, len(record.files), size / 1e6, first)
    return root / paths.RAW / dataset.name


def _download(dataset: Dataset, places: Places) -> Provenance:
    target = places.target
    target.parent.mkdir(parents=True, exist_ok=True)
    places.cache.mkdir(parents=True, exist_ok=True)
    with _alone(places.cache.with_name(f"{dataset.name}.lock"), dataset.name):
        for abandoned in target.parent.glob(f".{dataset.name}.making-*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{dataset.name}.making-", dir=target.parent) as made:
            folder = Path(made) / dataset.name
            record = None if dataset.source is SourcePolicy.synthetic else _real(dataset, folder, places)
            record = record or _stand_in(dataset, folder)
            provenance.write(folder, record)
            if target.exists():
                os.replace(target, Path(made) / "replaced")
            os.replace(folder, target)
    return record


def verify(dataset: Dataset, folder: Path, *, pinned: bool = True) -> pd.DataFrame | None:
    """Raise DataError where the files in `folder` are not the data set; returns the table, where it is one."""
    if isinstance(dataset, NBADataset):
        return nba.table(dataset, folder)
    if isinstance(dataset, ImageDataset):
        idx.read(dataset, folder, pinned=pinned)
    return None


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """One download of a data set at a time; the second process waits, and then finds the first one's files kept."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        log.info("%s: waiting for another download of it", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _real(dataset: Dataset, folder: Path, places: Places) -> Provenance | None:
    """From the first source that has it; None where nobody answered and a stand-in is allowed."""
    client = Client(dataset.transport, places.cache)
    reasons, answered = [], False
    for name, source in dataset.sources.items():
        remotes = locator(source).remotes(source, dataset)
        if not remotes:
            reasons.append(f"{name}: {MIRROR} is not set")
            continue
        try:
            return _from(name, source, remotes, dataset, folder, client, places)
        except SourceError as error:
            reason, answered = str(error), answered or error.answered
        except DataError as error:
            reason, answered = " ".join(str(error).split()), True
        log.warning("%s: %s: %s", dataset.name, name, reason)
        reasons.append(f"{name}: {reason}")
    told = "; ".join(reasons) or "no sources are listed"
    if answered or dataset.source is SourcePolicy.real:
        raise DataError(
            f"{dataset.name}: no source gave the data: {told}; set {MIRROR} to a folder or address that has it, "
            f"or datasets.{dataset.name}.source=synthetic for stand-in data"
        )
    log.warning("%s: nobody answered (%s)", dataset.name, told)
    return None


def _from(
    name: str, source: Source, remotes: list[Remote], dataset: Dataset, folder: Path, client: Client, places: Places
) -> Provenance:
    """Everything from one source, verified; raises SourceError or DataError, leaving nothing in `folder`."""
    for attempt in (1, 2):
        client.resumed.clear()
        try:
            table = _fetched(source, remotes, dataset, folder, client)
            break
        except (SourceError, DataError) as error:
            if isinstance(error, DataError):
                _reject(name, remotes, folder, places.rejected, str(error))
                client.forget(remotes)
            shutil.rmtree(folder, ignore_errors=True)
            # What was put together from two answers may be neither of them: once more, from the beginning.
            if attempt == 2 or isinstance(error, SourceError) or not client.resumed:
                raise
    origin = locator(source).origin
    client.keep(remotes, folder)
    if table is not None:
        drift.record(table, origin, places.versions)
    files = tuple(provenance.raw_file(folder, remote.name, remote.recorded) for remote in remotes)
    return Provenance(dataset.name, origin, dataset.licence, "", files)


def _fetched(
    source: Source, remotes: list[Remote], dataset: Dataset, folder: Path, client: Client
) -> pd.DataFrame | None:
    for remote in remotes:
        client.fetch(remote, folder / remote.name, most_bytes(dataset, remote))
        expected = source.sha256.get(remote.name)
        if expected and (received := provenance.sha256(folder / remote.name)) != expected:
            raise DataError(f"{remote.name}: expected the SHA-256 {expected}; received {received}")
    return verify(dataset, folder)


def _reject(name: str, remotes: list[Remote], folder: Path, rejected: Path, reason: str) -> None:
    """Keep the files of a source that failed aside, each as <source>-<file>, and why in <source>-reason.txt."""
    rejected.mkdir(parents=True, exist_ok=True)
    for remote in remotes:
        if (folder / remote.name).exists():
            os.replace(folder / remote.name, rejected / f"{name}-{remote.name.replace('/', '-')}")
    (rejected / f"{name}-reason.txt").write_text(reason + "\n")


def most_bytes(dataset: Dataset, remote: Remote) -> int:
    """How large a file may be as it travels: for a known array its own size, since compression makes it smaller."""
    if not isinstance(dataset, ImageDataset):
        return dataset.transport.max_bytes
    values = sum(prod(array.shape) for array in dataset.arrays.values() if array.file == remote.name)
    return 8 * values + (1 << 16)


def _stand_in(dataset: Dataset, folder: Path) -> Provenance:
    names = synthetic.write(dataset, folder)
    verify(dataset, folder, pinned=False)
    log.warning("%s: STAND-IN DATA. %s", dataset.name, synthetic.NOTE)
    files = tuple(provenance.raw_file(folder, name, "drawn by twinnet") for name in names)
    return Provenance(dataset.name, SYNTHETIC, "MIT", synthetic.NOTE, files)
