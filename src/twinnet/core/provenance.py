"""provenance.json of a data set: where its files came from, and their SHA-256.

It lies in data/raw/<name>/ and in data/processed/<name>/. Without a timestamp, the same data is the same file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from twinnet.core import paths
from twinnet.core.errors import DataError

NAME = "provenance.json"
SYNTHETIC = "synthetic"  # the source of data that a program drew
SYNTHETIC_NOTE = "synthetic data: drawn by a program, not measured"
ORIGINS = ("upstream", "mirror", "snapshot", SYNTHETIC)
STAGES = {paths.RAW: "download", paths.PROCESSED: "preprocess"}  # folder of data sets -> the stage that writes it


@dataclass(frozen=True)
class RawFile:
    """One file of a data set: its path in the folder, where it came from, its SHA-256."""

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
    processed: Mapping[str, str] = field(default_factory=dict)  # file of data/processed/<name>/ -> SHA-256


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def raw_file(folder: Path, name: str, address: str) -> RawFile:
    path = folder / name
    return RawFile(name, address, sha256(path), path.stat().st_size)


def write(folder: Path, provenance: Provenance) -> None:
    values = asdict(provenance)
    if not provenance.processed:
        del values["processed"]
    paths.write_text(folder / NAME, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_processed(root: Path, file_name: str, content: bytes, raw: Provenance) -> Path:
    """Write data/processed/<raw.dataset>/<file_name> and the provenance beside it; return the file's path."""
    folder = root / paths.PROCESSED / raw.dataset
    with paths.atomic_write(folder / file_name) as file:
        file.write(content)
    write(folder, replace(raw, processed={file_name: hashlib.sha256(content).hexdigest()}))
    return folder / file_name


def read(name: str, root: Path = Path("."), place: Path = paths.RAW) -> Provenance:
    """Return the provenance in data/raw/<name>/ or, by `place`, data/processed/<name>/; raises DataError."""
    path, command = place / name / NAME, f"{STAGES[place]}@{name}"
    try:
        values = json.loads((root / path).read_text(encoding="utf-8"))
        files = tuple(RawFile(**file) for file in values.pop("files"))
        provenance = Provenance(**values, files=files)
    except FileNotFoundError as error:
        raise DataError(f"expected {path}; found none; run `dvc repro {command}`") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged; run `dvc repro -f {command}`") from error
    if provenance.source not in ORIGINS or not isinstance(provenance.processed, dict):
        raise DataError(f"{path}: expected a source of {', '.join(ORIGINS)}; run `dvc repro -f {command}`")
    return provenance
