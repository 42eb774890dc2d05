"""What a run is: the facts of its making, and what its directory holds, read back.

`record.json` keeps in the run's directory what the contract's other files do not tell (data, code, versions, DVC), so
that a run that is published later says the same as one that was tracked live. Loads no engine and no configuration.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from twinnet.core.errors import DataError

if TYPE_CHECKING:
    from twinnet.core.history import History

RECORD = "record.json"
RESULT_FILES = ("config.yaml", "metrics.json", "predictions.npz")  # what makes two results the same
STEPS = 320  # of a curve in the tracking store, about: as many as MLflow's charts draw
SAMPLING = ("seed", "name", "description", "checkpoint_seconds")  # what two runs of one configuration may differ in


@dataclass(frozen=True)
class RunInfo:
    """What is known about a run when it starts; plain values, so that JSON keeps them as they are."""

    config: dict[str, Any]  # the resolved experiment
    started: int  # milliseconds since 1970, as MLflow counts
    parameters: int
    input_shape: list[int]
    units: int
    example: list[Any] | None = None  # one sample as the network takes it, with the samples' axis
    device: str = ""
    data: dict[str, Any] = field(default_factory=dict)  # source, digest, samples, file, addresses, licence
    code: dict[str, Any] = field(default_factory=dict)  # commit, dirty
    versions: dict[str, str] = field(default_factory=dict)
    dvc: dict[str, str] = field(default_factory=dict)  # stage, exp, data
    command: str = ""
    overrides: list[str] = field(default_factory=list)  # Hydra's
    warnings: list[str] = field(default_factory=list)
    ended: int | None = None

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def dataset(self) -> str:
        return str(self.config["data"]["name"])

    @property
    def epochs(self) -> int:
        """Those that are to be trained."""
        epochs = int(self.config["epochs"])
        return min(epochs, (self.config.get("limits") or {}).get("epochs") or epochs)

    @property
    def dtype(self) -> str:
        return str(self.config["engine"]["dtype"])

    @property
    def engine(self) -> str:
        """The engine with what computes for it: scratch/jax, keras/tensorflow."""
        engine = self.config["engine"]
        return f"{engine['kind']}/{engine.get('array') or engine.get('backend')}"


def now() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Record:
    """A run's directory, read back."""

    directory: Path
    facts: RunInfo
    metrics: dict[str, float | int | str]
    curves: pd.DataFrame  # history.csv
    result: str  # SHA-256 of what was computed: the same wherever the directory lies

    @property
    def figures(self) -> list[Path]:
        return sorted((self.directory / "figures").glob("*.png"))

    @property
    def model(self) -> Path | None:
        return next(iter(sorted(self.directory.glob("model.*"))), None)


def write(directory: Path, facts: RunInfo) -> None:
    """Leave record.json in the run's directory, whole or not at all."""
    partial = directory / f".{RECORD}.part"
    partial.write_text(json.dumps(asdict(facts), indent=1) + "\n")
    os.replace(partial, directory / RECORD)


def complete(runs: Path) -> list[Path]:
    """The directories under `runs` that hold a finished run: metrics.json is written last."""
    return sorted(folder.parent for folder in runs.glob("*/metrics.json"))


def read(directory: Path) -> Record:
    """Raises DataError where a file of the contract is missing or is not what it should be."""
    try:
        metrics = json.loads((directory / "metrics.json").read_text())
        curves = pd.read_csv(directory / "history.csv")
        return Record(directory, _facts(directory, metrics), metrics, curves, result(directory))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise _broken(directory, error) from error


def _broken(directory: Path, error: Exception) -> DataError:
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(f"expected a finished run in {directory}; received {told}; train it again, or delete the folder")


def _facts(directory: Path, metrics: Mapping[str, Any]) -> RunInfo:
    """Those of record.json; where the run was trained without tracking, what the other files tell."""
    try:
        return RunInfo(**json.loads((directory / RECORD).read_text()))
    except FileNotFoundError:
        from twinnet.training import run_info as facts  # here, because it loads all that describes a network

        return facts.reconstruct(directory, metrics)


def result(directory: Path) -> str:
    """SHA-256 over the configuration, the metrics (with the seconds it took) and the predictions.

    Raises DataError where one of them is missing.
    """
    digest = hashlib.sha256()
    for name in RESULT_FILES:
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise _broken(directory, error) from error
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def configuration(settings: Mapping[str, Any]) -> str:
    """A short hash of an experiment's configuration without its seed and its names: what seeds are averaged over."""
    kept = {key: value for key, value in settings.items() if key not in SAMPLING}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"model": {"hidden_units": [4]}}` to `{"model.hidden_units": "[4]"}`: values as they are written in YAML."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def points(history: "History", start: int, epochs: int) -> list[dict[str, float]]:
    """The steps among the chunks from `start` on, as `steps` gives them, of a training of so many epochs."""
    metric, ends = history.metric, history.valid_epoch
    return [
        {
            "epoch": ends[i],
            "train/loss": float(history.train_loss[i][-1]),
            f"train/{metric}": float(history.train_metric[i][-1]),
            "valid/loss": history.valid_loss[i],
            f"valid/{metric}": history.valid_metric[i],
        }
        for i in range(start, len(ends))
        if _is_step(ends[i], ends[i - 1] if i else 0, epochs)
    ]


def steps(curves: pd.DataFrame, epochs: int) -> list[dict[str, float]]:
    """Rows of history.csv that a curve in the tracking store has, and the last: the finite values, `epoch` an int."""
    rows, before = curves.to_dict("records"), [0, *curves["epoch"]]
    kept = []
    for i, row in enumerate(rows):
        if i == len(rows) - 1 or _is_step(row["epoch"], before[i], epochs):
            values = {str(key): float(value) for key, value in row.items() if np.isfinite(value)}
            kept.append(values | {"epoch": int(row["epoch"])})
    return kept


def _is_step(epoch: int, before: int, epochs: int) -> bool:
    """Whether the row of an epoch, after that of `before`, is the first one, the last one or the next of STEPS."""
    stride = -(-epochs // STEPS)
    return not before or epoch >= epochs or epoch // stride > before // stride
