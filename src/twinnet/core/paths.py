"""Paths: the repository root and its data, runs and reports folders, and files that are written whole."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from twinnet.core.errors import TwinnetError

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
RUNS = Path("runs")
REPORTS = Path("reports")


def root(start: Path | None = None) -> Path:
    """Return the folder that holds conf/ and dvc.yaml: the nearest one at or above `start` (the working directory).

    In a DVC experiment that is its temporary copy, so that stages read and write there. Raises TwinnetError if there is
    none, as with a wheel that is installed elsewhere.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf" / "config.yaml").is_file():
            _warn_of_other_code(folder)
            return folder
    raise TwinnetError(f"expected a checkout of twinnet (conf/, dvc.yaml); received {start}; clone it, and start there")


@lru_cache
def _warn_of_other_code(folder: Path) -> None:
    """Say, once, that a copied checkout runs the code of the one that it was copied from."""
    here, code = folder / "src" / "twinnet", Path(__file__).resolve().parents[1]
    if here.is_dir() and not here.samefile(code):
        print(
            f"warning: the code that runs is {code}, not {here}; run `make repro` or `make test` here", file=sys.stderr
        )


def main_root() -> Path:
    """Return the repository itself, also inside a DVC experiment's temporary copy (DVC_ROOT): stores lie there."""
    return Path(os.environ["DVC_ROOT"]) if os.environ.get("DVC_ROOT") else root()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write a file whole or not at all: under a temporary name beside it, then renamed. Makes its folder.

    Raises OSError if there is no space or no permission; the file that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())
