"""Cache of finished trainings: outputs/results/<key>/, one run's directory for each fingerprint.

The disk, not the MLflow store, says what is trained: `train` writes metrics.json last, so that a result appears whole
or not at all. The file lock beside it works between processes, and between hosts that share the folder.
"""

import json
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from twinnet.core import provenance
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment
from twinnet.sweeps.job import JobResult, Status
from twinnet.training.dataset import processed_file
from twinnet.training.fingerprint import fingerprint

RESULTS = Path("outputs/results")


def key(experiment: Experiment, root: Path) -> str:
    """Return the fingerprint of the training on the data under `root`. Raises DataError if the data is missing."""
    file = processed_file(experiment.data)
    try:
        status = (root / file).stat()
    except OSError as error:
        raise DataError(
            f"data set {experiment.data.name!r}: expected {file}; found none; run `dvc repro` or `make repro` first"
        ) from error
    return fingerprint(experiment, _digest(root / file, status.st_mtime_ns, status.st_size))


@lru_cache
def _digest(file: Path, modified: int, size: int) -> str:
    return provenance.sha256(file)


def directory(result_key: str, root: Path) -> Path:
    return root / RESULTS / result_key


def find(result_key: str, root: Path) -> JobResult | None:
    """Return the result with this key, or None if there is none on this disk."""
    folder = directory(result_key, root)
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return JobResult(result_key, Status.reused, metrics, str(folder))


def lock(result_key: str, root: Path) -> FileLock:
    """Return the lock of the process that trains this result; the system frees it when that process dies."""
    folder = root / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{result_key}.lock")
