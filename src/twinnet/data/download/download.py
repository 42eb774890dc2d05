"""Fill data/raw/<name>/ from the first source that gives a data set whole and verified."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path

from filelock import FileLock, Timeout

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError, one_line_text
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE, Provenance
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, Source, SourcePolicy, SyntheticKind, TableDataset
from twinnet.data.download import synthetic_images, synthetic_players
from twinnet.data.download.fetch import Client, SourceError
from twinnet.data.download.sources import MIRROR, RemoteFile, source_kind
from twinnet.data.formats import idx, nba, table

log = logging.getLogger(__name__)

CACHE, REJECTED = Path("data/cache"), Path("data/rejected")


def download_dataset(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Fill data/raw/<name>/ from the first of `dataset.sources` whose files pass; return the folder.

    The folder appears under its name only when it is complete and verified; otherwise the earlier one stays.
    If no host answers at all and `source` is auto, synthetic data takes its place (logged).
    Raises DataError naming each source with its reason if there is no data.
    """
    recorded = _download(dataset, root)
    size, first = sum(file.bytes for file in recorded.files), recorded.files[0].address
    log.info("%s: %s, %d files, %.1f MB, %s", dataset.name, recorded.source, len(recorded.files), size / 1e6, first)
    return root / paths.RAW / dataset.name


def _download(dataset: Dataset, root: Path) -> Provenance:
    target = root / paths.RAW / dataset.name
    shared = Path(os.environ.get("DVC_ROOT") or root)  # by the temporary copies of a DVC experiment
    cache = shared / CACHE / dataset.name
    target.parent.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    with _exclusive(cache.with_name(f"{dataset.name}.lock"), dataset.name):
        for abandoned in target.parent.glob(f".{dataset.name}.making-*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{dataset.name}.making-", dir=target.parent) as made:
            folder = Path(made) / dataset.name
            recorded = None
            if dataset.source is not SourcePolicy.synthetic:
                client = Client(dataset.transport, cache)
                recorded = _from_first_source(dataset, folder, client, shared / REJECTED / dataset.name)
            recorded = recorded or _generate(dataset, folder)
            provenance.write(folder, recorded)
            if target.exists():
                os.replace(target, Path(made) / "replaced")
            os.replace(folder, target)
    return recorded


def verify(dataset: Dataset, folder: Path, *, pinned: bool = True) -> str:
    """Return what a reader must know of the files in `folder`; raises DataError if they are not the data set."""
    if isinstance(dataset, NBADataset):
        return nba.read(dataset, folder)[1]
    if isinstance(dataset, ImageDataset):
        idx.read(dataset, folder, pinned=pinned)
    if isinstance(dataset, TableDataset):
        table.read(dataset, folder)
    return ""


@contextmanager
def _exclusive(path: Path, name: str) -> Iterator[None]:
    """One download of a data set at a time: a second process waits, and then finds the files in the cache."""
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


def _from_first_source(dataset: Dataset, folder: Path, client: Client, rejected: Path) -> Provenance | None:
    """Fetch from the first source that has the data set; None if no host answered and synthetic data is allowed."""
    reasons, answered = [], False
    for name, source in dataset.sources.items():
        remotes = source_kind(source).remotes(source, dataset)
        if not remotes:
            reasons.append(f"{name}: {MIRROR} is not set")
            continue
        try:
            return _fetch_and_verify(source, remotes, dataset, folder, client)
        except SourceError as error:
            reason, answered = str(error), answered or error.answered
        except DataError as error:
            reason, answered = one_line_text(error), True
            _quarantine(name, remotes, folder, rejected, reason)
        shutil.rmtree(folder, ignore_errors=True)
        log.warning("%s: %s: %s", dataset.name, name, reason)
        reasons.append(f"{name}: {reason}")
    listed = "; ".join(reasons) or "no sources are listed"
    if answered or dataset.source is SourcePolicy.real:
        remedy = f"set {MIRROR} to a folder or address that has it"
        if _generator(dataset):
            remedy += f", or datasets.{dataset.name}.source=synthetic for synthetic data"
        raise DataError(f"{dataset.name}: no source gave the data: {listed}; {remedy}")
    log.warning("%s: no host answered (%s)", dataset.name, listed)
    return None


def _fetch_and_verify(
    source: Source, remotes: list[RemoteFile], dataset: Dataset, folder: Path, client: Client
) -> Provenance:
    """Fetch every file of one source to `folder` and verify them; raises SourceError or DataError."""
    for remote in remotes:
        client.fetch(remote, folder / remote.name, most_bytes(dataset, remote))
        expected = source.sha256.get(remote.name)
        if expected and (received := provenance.sha256(folder / remote.name)) != expected:
            raise DataError(f"{remote.name}: expected the SHA-256 {expected}; received {received}")
    note = verify(dataset, folder)
    for remote in remotes:
        client.accept(remote, folder / remote.name)
    files = tuple(provenance.raw_file(folder, remote.name, remote.recorded) for remote in remotes)
    return Provenance(dataset.name, source_kind(source).origin, dataset.licence, note, files)


def _quarantine(name: str, remotes: list[RemoteFile], folder: Path, rejected: Path, reason: str) -> None:
    """Copy the files of a source that failed to `rejected`, each as <source>-<file>, and why to <source>-reason.txt."""
    rejected.mkdir(parents=True, exist_ok=True)
    for remote in remotes:
        if (folder / remote.name).exists():
            shutil.copyfile(folder / remote.name, rejected / f"{name}-{remote.name.replace('/', '-')}")
    paths.write_text(rejected / f"{name}-reason.txt", reason + "\n")


def most_bytes(dataset: Dataset, remote: RemoteFile) -> int:
    """Return how large a file may be as it travels: for a known array its own size, since compression reduces it."""
    if not isinstance(dataset, ImageDataset):
        return dataset.transport.max_bytes
    values = sum(prod(array.shape) for array in dataset.arrays.values() if array.file == remote.name)
    return 8 * values + (1 << 16)


def _generator(dataset: Dataset) -> Callable[[Path], list[str]] | None:
    """Return what writes synthetic data to a folder and returns the names of its files; None if there is none."""
    if isinstance(dataset, NBADataset):
        return partial(synthetic_players.generate, dataset)
    if isinstance(dataset, ImageDataset) and dataset.stand_in is not SyntheticKind.none:
        return partial(synthetic_images.generate, dataset)
    return None


def _generate(dataset: Dataset, folder: Path) -> Provenance:
    if not (generate := _generator(dataset)):
        raise DataError(f"{dataset.name}: expected a source of the data; it has no synthetic data; set {MIRROR}")
    names = generate(folder)
    verify(dataset, folder, pinned=False)
    log.warning("%s: %s", dataset.name, SYNTHETIC_NOTE)
    files = tuple(provenance.raw_file(folder, name, "drawn by twinnet") for name in names)
    return Provenance(dataset.name, SYNTHETIC, "MIT", SYNTHETIC_NOTE, files)
