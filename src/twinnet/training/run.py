"""A finished run: the files of runs/<name>/, written and read by one class."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np
import psutil
import yaml

from twinnet.core import config, engine, rules
from twinnet.core.errors import ConfigError, DataError, TwinnetError, one_line_text
from twinnet.core.history import MAX_RECORDS, History
from twinnet.core.metrics import predicted_classes
from twinnet.core.network import output_units
from twinnet.core.problem import TrainedNetwork, metric
from twinnet.core.provenance import ORIGINS, SYNTHETIC
from twinnet.core.schema import Experiment, Task
from twinnet.core.splits import Splits
from twinnet.training.run_info import RunInfo

if TYPE_CHECKING:
    import pandas as pd

CONFIG, METRICS, RECORD, SCALING = "config.yaml", "metrics.json", "record.json", "scaling.json"
HISTORY, FULL_HISTORY, PREDICTIONS = "history.csv", "history.npz", "predictions.npz"
MODELS = {"scratch": "model.npz", "keras": "model.keras"}  # engine -> the file of its trained network
RESULT_FILES = (CONFIG, METRICS, PREDICTIONS)  # what makes two results the same
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    BadZipFile,
    yaml.YAMLError,
    ConfigError,
)
STAGING = ".staging-"
SAMPLING = ("seed", "name", "description", "checkpoint_seconds")  # what two runs of one configuration may differ in

Metrics = dict[str, float | int | str]
Value = TypeVar("Value")


class Run:
    """The files of a finished run; each is read, and checked, when it is first asked for.

    Reading raises DataError, in one line that names the file, if it is missing, damaged or contradicts another one.
    """

    def __init__(self, directory: Path, experiment: Experiment | None = None) -> None:
        """`experiment`: what config.yaml says, if it is known."""
        self.directory = directory
        if experiment:
            self.experiment = experiment

    @classmethod
    def read(cls, directory: Path) -> "Run":
        """Return the run in `directory`, with every file checked."""
        run = cls(directory)
        if not directory.is_dir():
            raise DataError(f"expected a finished run in {directory}; found no such folder; train it")
        _ = run.experiment, run.metrics, run.info, run.history, run.predictions, run.scaling, run.model
        return run

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.directory.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """config.yaml, as it is written."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if LibYAML is there
        return self._parsed(CONFIG, lambda text: _mapping(yaml.load(text, loader)))

    @cached_property
    def experiment(self) -> Experiment:
        return self._parsed(CONFIG, lambda _: config.experiment(self.settings, allow_batch=True))

    @cached_property
    def metrics(self) -> Metrics:
        """The flat keys of the contract, checked for those that every run has."""
        metrics: Metrics = self._parsed(METRICS, lambda text: _mapping(json.loads(text)))
        split = "test" if "test/loss" in metrics else "valid"
        scores = [f"{part}/{key}" for part in ("train", "valid", split) for key in ("loss", self.metric)]
        for key in dict.fromkeys([*scores, "epochs", "seconds", "parameters"]):
            value, whole = metrics.get(key), key in ("epochs", "parameters")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise self._broken(METRICS, f"expected a number for {key}; received {value!r}")
            if not math.isfinite(value) or (whole and value < 1):
                raise self._broken(METRICS, f"expected a finite number for {key}; received {value!r}")
        if metrics.get("data_source") not in ORIGINS:
            raise self._broken(METRICS, f"expected data_source in {ORIGINS}; received {metrics.get('data_source')!r}")
        if not isinstance(metrics.get("device"), str):
            raise self._broken(METRICS, f"expected a text for device; received {metrics.get('device')!r}")
        return metrics

    @cached_property
    def info(self) -> RunInfo:
        """record.json, whose configuration is that of config.yaml."""
        info = self._parsed(RECORD, lambda text: RunInfo.parse(_mapping(json.loads(text))))
        if self.settings != info.config:
            raise self._broken(CONFIG, f"expected the configuration that {RECORD} holds; received another")
        return info

    @cached_property
    def history(self) -> "pd.DataFrame":
        """history.csv: epoch, train/loss, train/<metric>, valid/loss, valid/<metric>, at most 1,000 rows."""
        import pandas as pd  # 0.3 s

        table = self._parsed(HISTORY, lambda text: pd.read_csv(StringIO(text)))
        columns = ["epoch", "train/loss", f"train/{self.metric}", "valid/loss", f"valid/{self.metric}"]
        if list(table) != columns:
            raise self._broken(HISTORY, f"expected the columns {','.join(columns)}; received {','.join(table)}")
        numbers = all(column.kind in "biuf" for column in table.dtypes)
        if not numbers or not np.isfinite(table.to_numpy(dtype=float)).all():
            raise self._broken(HISTORY, "expected finite numbers; received text, NaN or infinity")
        trained, stride = int(self.metrics["epochs"]), -(-self.experiment.trained_epochs // MAX_RECORDS)
        expected = [min(start + stride, trained) for start in range(0, trained, stride)]
        if table["epoch"].tolist() != expected:
            raise self._broken(
                HISTORY,
                f"expected {len(expected)} rows up to epoch {trained}, as {METRICS} says; received {len(table)}",
            )
        return table

    @cached_property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """y_true (samples,) and y_prob (samples, units) of the evaluation split."""
        arrays = self._arrays(PREDICTIONS)
        if set(arrays) != {"y_true", "y_prob"} or any(array.dtype.kind not in "iuf" for array in arrays.values()):
            received = ", ".join(f"{name} of {array.dtype}" for name, array in arrays.items())
            raise self._broken(PREDICTIONS, f"expected the numbers y_true and y_prob; received {received}")
        y_true, y_prob = arrays["y_true"], arrays["y_prob"]
        units = output_units(self.experiment.data.task, len(self.classes))
        if y_true.ndim != 1 or len(y_true) == 0 or y_prob.shape != (len(y_true), units):
            raise self._broken(
                PREDICTIONS,
                f"expected y_true (samples,) and y_prob (samples, {units}); received {y_true.shape} and {y_prob.shape}",
            )
        if not np.isfinite(y_prob).all() or not np.isfinite(y_true).all():
            raise self._broken(PREDICTIONS, "expected finite numbers; received NaN or infinity")
        self._check_score(y_true, y_prob)
        return y_true, y_prob

    @cached_property
    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of each feature or channel: the network takes (X - mean) / scale."""
        found = self._parsed(SCALING, lambda text: _mapping(json.loads(text)))
        data = self.experiment.data
        size = len(getattr(data, "features", ())) or getattr(data, "image_shape", [0])[-1]
        for key in ("mean", "scale"):
            values = found.get(key)
            is_list = isinstance(values, list) and all(type(value) in (int, float) for value in values)
            if values is None or not is_list or len(values) != size or not np.isfinite(values).all():
                raise self._broken(SCALING, f"expected {size} finite numbers for {key!r}; received {values}")
        if 0 in found["scale"]:
            raise self._broken(SCALING, f"expected a scale that is not 0; received {found['scale']}")
        return np.array(found["mean"], dtype=float), np.array(found["scale"], dtype=float)

    @cached_property
    def model(self) -> Path:
        """The file of the trained network."""
        file = self.directory / MODELS[self.experiment.engine.kind]
        if not file.is_file():
            raise self._broken(file.name, "expected the trained network; found none")
        return file

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the configuration, the metrics (with the seconds it took) and the predictions."""
        return self.hash_files(*RESULT_FILES)

    def hash_files(self, *names: str) -> str:
        """Return the SHA-256 over the names and the contents of files of the run."""
        digest = hashlib.sha256()
        for name in names:
            with self._reading(name, "the file of a finished run") as file:
                content = file.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    @property
    def figures(self) -> list[Path]:
        return sorted((self.directory / "figures").glob("*.png"))

    @property
    def warnings(self) -> list[str]:
        return self.info.warnings

    @property
    def is_degenerate(self) -> bool:
        """Whether its loss cannot teach the network anything."""
        return rules.degenerate(self.experiment) is not None

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of its scores; often none."""
        reason = rules.degenerate(self.experiment)
        return [f"does not learn: {reason}"] if reason else []

    @property
    def dataset(self) -> str:
        return self.experiment.data.name

    @property
    def classes(self) -> list[str]:
        return self.experiment.data.classes or []

    @property
    def is_regression(self) -> bool:
        return self.experiment.data.task is Task.regression

    @property
    def metric(self) -> str:
        """`accuracy` for classes, `mae` for regression."""
        return metric(self.experiment.data.task)

    @property
    def is_synthetic(self) -> bool:
        return self.metrics["data_source"] == SYNTHETIC

    @property
    def split(self) -> str:
        """The evaluation split: test if there is one, else valid."""
        return "test" if "test/loss" in self.metrics else "valid"

    @property
    def loss(self) -> float:
        return float(self.metrics[f"{self.split}/loss"])

    @property
    def y_true(self) -> np.ndarray:
        return self.predictions[0]

    @property
    def y_prob(self) -> np.ndarray:
        return self.predictions[1]

    @cached_property
    def y_pred(self) -> np.ndarray:
        """Predicted class of each sample, (samples,)."""
        return predicted_classes(self.y_prob)

    @cached_property
    def is_correct(self) -> np.ndarray:
        """True for each sample whose predicted class is right, (samples,)."""
        return self.y_pred == self.y_true

    def full_history(self) -> History:
        """Return the history of every epoch (history.npz)."""
        arrays = self._arrays(FULL_HISTORY)
        try:
            return History.restore(self.metric, arrays)
        except (KeyError, ValueError, IndexError) as error:
            raise self._broken(FULL_HISTORY, f"expected a history; received {one_line_text(error)}") from error

    def network(self) -> TrainedNetwork:
        """Load the trained network, with its engine's libraries."""
        try:
            return engine.load(self.experiment.engine, self.model)
        except TwinnetError:
            raise
        except Exception as error:  # a damaged file fails wherever its reader stumbles
            problem = f"expected the trained network; received {one_line_text(error)}"
            raise self._broken(self.model.name, problem) from error

    def _check_score(self, y_true: np.ndarray, y_prob: np.ndarray) -> None:
        if self.is_regression:
            score = float(np.abs(y_prob[:, 0] - y_true).mean())
        else:
            if not np.isin(y_true, range(len(self.classes))).all():
                raise self._broken(PREDICTIONS, f"expected labels 0 to {len(self.classes) - 1}; received others")
            score = float((predicted_classes(y_prob) == y_true).mean())
        key = f"{self.split}/{self.metric}"
        expected = float(self.metrics[key])
        if not math.isclose(score, expected, rel_tol=1e-4, abs_tol=1e-6):
            raise self._broken(PREDICTIONS, f"expected {key} {expected:.6g}, as {METRICS} says; received {score:.6g}")

    def _parsed(self, name: str, parse: Callable[[str], Value]) -> Value:
        with self._reading(name, "the file of a finished run") as file:
            return parse(file.read_text(encoding="utf-8"))

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        with self._reading(name, "an archive of arrays") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    @contextmanager
    def _reading(self, name: str, expected: str) -> Iterator[Path]:
        """Raise DataError for whatever a missing or damaged file makes its reader fail with."""
        try:
            yield self.directory / name
        except FileNotFoundError as error:
            raise self._broken(name, f"expected {name}; found none") from error
        except UNREADABLE as error:
            raise self._broken(name, f"expected {expected}; received {one_line_text(error)}") from error

    def _broken(self, name: str, problem: str) -> DataError:
        return DataError(f"{self.directory / name}: {problem}; train it again, or delete the folder")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected names and values; received {type(value).__name__}")
    return value


def finished_runs(runs: Path) -> list[Path]:
    """Return the directories under `runs` that hold a finished run: metrics.json is written last."""
    return sorted(file.parent for file in runs.glob(f"*/{METRICS}") if not file.parent.name.startswith("."))


def read_runs(runs: Path, names: Sequence[str] | None = None) -> list[Run]:
    """Return the runs under `runs` (those named, or all), checked, in the order of their names.

    Raises DataError if there are none, or one is missing, incomplete or contradicts itself.
    """
    if names is None:
        found = runs.iterdir() if runs.is_dir() else ()
        names = [entry.name for entry in found if entry.is_dir() and not entry.name.startswith(".")]
    if not names:
        raise DataError(f"expected finished runs in {runs}; found none; run `dvc repro`")
    return [Run.read(runs / name) for name in sorted(names)]


def write_run(
    directory: Path,
    experiment: Experiment,
    info: RunInfo,
    metrics: Metrics,
    history: History,
    predictions: tuple[np.ndarray, np.ndarray],
    splits: Splits,
    network: TrainedNetwork,
) -> Run:
    """Leave a finished run in `directory`: its files appear there when all are complete, metrics.json last.

    They are written beside their place, on the same file system. Raises OSError; an earlier run then stays whole.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remove_stale_staging(directory)
    staging = directory / f"{STAGING}{os.getpid()}"
    staging.mkdir()
    try:
        (staging / CONFIG).write_text(yaml.safe_dump(config.plain(experiment), sort_keys=False), encoding="utf-8")
        (staging / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (staging / RECORD).write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
        scaling = {"mean": splits.mean.tolist(), "scale": splits.scale.tolist()}
        (staging / SCALING).write_text(json.dumps(scaling) + "\n", encoding="utf-8")
        write_history(history, staging)
        y_true, y_prob = predictions
        np.savez_compressed(staging / PREDICTIONS, y_true=y_true, y_prob=y_prob)
        network.save(staging)
        _replace_run(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Run(directory, experiment)


def write_history(history: History, directory: Path) -> None:
    """Write history.csv, at most 1,000 rows, and history.npz, the whole history."""
    history.table().to_csv(directory / HISTORY, index=False)
    # np.savez_compressed has no level: of losses the first one makes as little as the sixth, in 0.4 of the time.
    with ZipFile(directory / FULL_HISTORY, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in history.arrays().items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _replace_run(staging: Path, directory: Path) -> None:
    (directory / METRICS).unlink(missing_ok=True)
    for stale in (*MODELS.values(), "figures"):  # of an earlier run, of another engine perhaps
        path = directory / stale
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for entry in sorted(staging.iterdir(), key=lambda entry: entry.name == METRICS):
        os.replace(entry, directory / entry.name)


def remove_stale_staging(directory: Path) -> None:
    """Remove what processes left in `directory` that were killed while they wrote there."""
    for folder in directory.glob(f"{STAGING}*"):
        pid = folder.name.removeprefix(STAGING)
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)


def config_hash(settings: Mapping[str, Any]) -> str:
    """Return a short hash of an experiment's configuration without its seed and names: seeds are averaged over it."""
    hashed = {key: value for key, value in settings.items() if key not in SAMPLING}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return `{"model.hidden_units": "[4]"}` for `{"model": {"hidden_units": [4]}}`: values as YAML writes them."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat
