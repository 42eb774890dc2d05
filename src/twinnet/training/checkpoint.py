"""Checkpoints of trainings. A resumed training ends with the same bits as an uninterrupted one.

They lie in build/checkpoints/<fingerprint>/ and not in the run's directory: DVC empties that one before it runs a
stage, and for `python -m twinnet.train` it is a new one each time.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout

from twinnet.core import paths
from twinnet.core.errors import DivergedError, PrunedError, one_line_text
from twinnet.core.history import Arrays

log = logging.getLogger(__name__)

CHECKPOINTS = Path("build/checkpoints")
NOT_SAVED = "no checkpoint could be saved (%s); the training goes on without"


class Checkpoint:
    """`core.monitor.CheckpointStore` in one file, saved every `every` seconds; None: never."""

    def __init__(self, directory: Path, every: float | None) -> None:
        self.file, self.every = directory / "state.npz", every
        self.seconds = 0.0  # of training before this process
        self.started = self.saved = time.perf_counter()
        self.has_failed = False

    def load(self) -> Arrays | None:
        if self.every is None or not os.path.lexists(self.file):
            return None
        try:
            with np.load(self.file, allow_pickle=False) as file:
                arrays = dict(file)
            self.seconds = float(arrays.pop("seconds"))
            epoch = int(arrays["history/valid_epoch"][-1])
        except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, BadZipFile) as error:
            self.set_aside(error)
            return None
        log.info("resumes from the checkpoint after epoch %d", epoch)
        return arrays

    def due(self) -> bool:
        return self.every is not None and time.perf_counter() - self.saved >= self.every

    def save(self, arrays: Arrays) -> None:
        """Save whole or not at all. A disk that is full costs the checkpoint, not the training."""
        now = time.perf_counter()
        try:
            with paths.atomic_write(self.file) as file:
                np.savez(file, seconds=np.array(self.seconds + now - self.started), **arrays)  # type: ignore[arg-type]  # names hold "/"
        except OSError as error:
            if not self.has_failed:
                log.warning(NOT_SAVED, error.strerror or error)
            self.has_failed = True
        self.saved = time.perf_counter()

    def set_aside(self, error: BaseException) -> None:
        """Rename a checkpoint that cannot be resumed from."""
        self.seconds = 0.0
        aside = self.file.with_suffix(".damaged")
        with suppress(OSError):
            self.file.replace(aside)
        log.warning("the checkpoint does not fit (%s); it is set aside as %s; the training starts over",
                    one_line_text(error), aside)  # fmt: skip

    def remove(self) -> None:
        if self.every is not None:
            shutil.rmtree(self.file.parent, ignore_errors=True)


@contextmanager
def checkpoint_for(root: Path, fingerprint: str, every: float | None) -> Iterator[Checkpoint]:
    """Yield the checkpoint of one training; it is removed at the end, and stays if the training is killed or fails.

    If another process trains the same at this moment, or the disk is full, this one saves none.
    """
    folder = root / CHECKPOINTS
    lock = FileLock(folder / f"{fingerprint}.lock", timeout=0)
    try:
        if every is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_free_locks(folder)
            lock.acquire()
    except Timeout:
        every = None
    except OSError as error:
        log.warning(NOT_SAVED, error.strerror or error)
        every = None
    checkpoint = Checkpoint(folder / fingerprint, every)
    try:
        yield checkpoint
    except (DivergedError, PrunedError):  # it would end in the same way again
        checkpoint.remove()
        raise
    else:
        checkpoint.remove()
    finally:
        lock.release()


def _remove_free_locks(folder: Path) -> None:
    """Remove the lock files of trainings that have ended or were killed."""
    for file in folder.glob("*.lock"):
        with suppress(Timeout, OSError), FileLock(file, timeout=0):
            file.unlink()
