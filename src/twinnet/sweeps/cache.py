"""Where finished trainings are found again: outputs/results/<key>/, one run's directory for each result key.

The disk, and not the MLflow store, says what is trained: training.train() moves metrics.json there last, which makes
the directory the one place where a result appears whole or not at all, whether or not a tracking server was up. The
file lock beside it works between processes, and between hosts that share the folder (they share data/ in it too). A
host that does not is served by the store, which is asked for the keys that the disk lacks.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment
from twinnet.training import fingerprint
from twinnet.training.dataset import processed_file

RESULTS = Path("outputs/results")


def key(experiment: Experiment, root: Path) -> str:
    """`identity.key` with the data that lies under `root`. Raises DataError where it is missing."""
    return fingerprint.fingerprint(experiment, data_digest(experiment, root))


def data_digest(experiment: Experiment, root: Path) -> str:
    """SHA-256 of the processed file that the experiment reads."""
    file = processed_file(experiment.data)
    try:
        status = (root / file).stat()
    except OSError as error:
        raise DataError(
            f"data set {experiment.data.name!r}: expected {file}; found none; run `dvc repro` or `make repro` first"
        ) from error
    return _digest(root / file, status.st_mtime_ns, status.st_size)


@lru_cache
def _digest(file: Path, modified: int, size: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def directory(result_key: str, root: Path) -> Path:
    return root / RESULTS / result_key


def find(result_key: str, root: Path) -> dict[str, Any] | None:
    """Metrics of the finished run with this key, or None where there is none on this disk."""
    try:
        return json.loads((directory(result_key, root) / "metrics.json").read_text())
    except (OSError, ValueError):
        return None


def lock(result_key: str, root: Path) -> FileLock:
    """Held by the process that trains this result; freed by the system when that process dies."""
    folder = root / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{result_key}.lock")
