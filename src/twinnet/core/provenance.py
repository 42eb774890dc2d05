"""data/raw/<dataset>/provenance.json: where the files came from and what they hash to.

No timestamp stands in it, so that the same data is the same file.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from twinnet.core import paths
from twinnet.core.errors import DataError

NAME = "provenance.json"
SYNTHETIC = "synthetic"  # the source of data that no source answered for
SYNTHETIC_NOTE = "synthetic data: drawn by a program, not measured"
ORIGINS = ("upstream", "mirror", "snapshot", SYNTHETIC)


@dataclass(frozen=True)
class RawFile:
    """One file of a data set: its path in the folder, where it came from, what it hashes to."""

    name: str
    address: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Provenance:
    """Where a data set came from; `source` is one of ORIGINS and `note` says what a reader must know."""

    dataset: str
    source: str
    licence: str
    note: str
    files: tuple[RawFile, ...]


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def raw_file(folder: Path, name: str, address: str) -> RawFile:
    path = folder / name
    return RawFile(name, address, sha256(path), path.stat().st_size)


def write(folder: Path, provenance: Provenance) -> None:
    (folder / NAME).write_text(json.dumps(asdict(provenance), indent=2, ensure_ascii=False) + "\n")


def read(name: str, root: Path = Path(".")) -> Provenance:
    """The provenance of a downloaded data set; raises DataError where it is missing or not one."""
    path = root / paths.RAW / name / NAME
    try:
        values = json.loads(path.read_text())
        files = tuple(RawFile(**file) for file in values.pop("files"))
        provenance = Provenance(**values, files=files)
    except FileNotFoundError as error:
        raise DataError(f"expected {paths.RAW / name / NAME}; found none; run `dvc repro download@{name}`") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{paths.RAW / name / NAME} is damaged; run `dvc repro -f download@{name}`") from error
    if provenance.source not in ORIGINS:
        raise DataError(f"{paths.RAW / name / NAME}: expected source to be one of {', '.join(ORIGINS)}")
    return provenance
