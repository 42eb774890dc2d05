"""Fingerprint of a training: one hash of its configuration, data, code and library versions.

The code is that of the folders that a stage `train` of dvc.yaml depends on, as it lies on disk: an edit counts before
it is committed.
"""

import hashlib
import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path

from twinnet.core import config
from twinnet.core.schema import Experiment

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("numpy", "keras", "jax", "jaxlib", "tensorflow", "tensorflow-cpu")
LENGTH = 24  # hexadecimal digits of a fingerprint: 96 bits
# Keys that name, describe or only speed up a training, and do not change its result.
IRRELEVANT = ("name", "description", "allow_degenerate", "limits", "checkpoint_seconds")
IRRELEVANT_ENGINE = ("threads",)


def fingerprint(experiment: Experiment, data_digest: str) -> str:
    """Return the hash of the settings that matter to the result, of the data and of the code."""
    settings = {name: value for name, value in config.plain(experiment).items() if name not in IRRELEVANT}
    settings["engine"] = {name: value for name, value in settings["engine"].items() if name not in IRRELEVANT_ENGINE}
    settings["epochs"] = experiment.trained_epochs
    settings["samples"] = experiment.limits.samples
    hashed = json.dumps([settings, data_digest, code_hash(experiment.engine.kind)], sort_keys=True)
    return hashlib.sha256(hashed.encode()).hexdigest()[:LENGTH]


@lru_cache
def code_hash(engine: str, *more: str) -> str:
    """Return the SHA-256 of the folders that determine a training with this engine, of `more`, and of library versions.

    Computed once in a process: the code that runs is the code that was imported.
    """
    digest = hashlib.sha256()
    for folder in (*code_folders(engine), *more):
        for file in sorted((PACKAGE / folder).rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    for name in LIBRARIES:
        digest.update(f"{name} {_installed(name)}\n".encode())
    return digest.hexdigest()


def code_folders(engine: str) -> tuple[str, ...]:
    """Return the folders of src/twinnet that determine a training, as dvc.yaml names them."""
    return ("core", f"engines/{engine}", "training")


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
