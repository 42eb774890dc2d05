"""Checkpoints: a training that was killed goes on where it was, and ends with the same bits as one that was not.

They lie in build/checkpoints/<key>/, by what is trained (`identity.key`), and not in the run's directory: DVC empties
that one before it runs a stage, and for `python -m twinnet.train` it is a new one each time.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout

from twinnet.core.errors import TwinnetError
from twinnet.core.history import Arrays

log = logging.getLogger(__name__)

CHECKPOINTS = Path("build/checkpoints")


class Checkpoint:
    """`engines.contract.Checkpoint` in one file. `every` seconds lie between two; None: there are none."""

    def __init__(self, directory: Path, every: float | None) -> None:
        self.file, self.every = directory / "state.npz", every
        self.seconds = 0.0  # of training before this process
        self.started = self.saved = time.perf_counter()

    def load(self) -> Arrays | None:
        if self.every is None or not self.file.exists():
            return None
        try:
            with np.load(self.file, allow_pickle=False) as file:
                arrays = dict(file)
            self.seconds = float(arrays.pop("seconds"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            log.warning("the checkpoint %s cannot be read (%s); the training starts anew", self.file, error)
            return None
        log.info("goes on from the checkpoint after epoch %d", arrays["history/valid_epoch"][-1])
        return arrays

    def due(self) -> bool:
        return self.every is not None and time.perf_counter() - self.saved >= self.every

    def save(self, arrays: Arrays) -> None:
        """Whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        now = time.perf_counter()
        with part.open("wb") as file:
            np.savez(file, seconds=np.array(self.seconds + now - self.started), **arrays)  # type: ignore[arg-type]  # names hold "/"
        os.replace(part, self.file)
        self.saved = time.perf_counter()

    def remove(self) -> None:
        if self.every is not None:
            shutil.rmtree(self.file.parent, ignore_errors=True)


@contextmanager
def checkpoint_for(root: Path, key: str, every: float | None) -> Iterator[Checkpoint]:
    """The checkpoint of one training, removed when that ends; what is killed or breaks leaves it.

    Where another process trains the same at this moment, this one keeps none.
    """
    folder = root / CHECKPOINTS
    if every is not None:
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{key}.lock", timeout=0)
    try:
        if every is not None:
            lock.acquire()
    except Timeout:
        every = None
    kept = Checkpoint(folder / key, every)
    try:
        yield kept
    except TwinnetError:  # it would end so again
        kept.remove()
        raise
    else:
        kept.remove()
    finally:
        lock.release()
