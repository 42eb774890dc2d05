"""A finished run read back from runs/<name>/, and checked: a comparison of broken runs says nothing."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import yaml

from twinnet.core import config, rules
from twinnet.core.errors import ConfigError, DataError
from twinnet.core.metrics import predicted_classes
from twinnet.core.problem import metric
from twinnet.core.schema import Experiment, KerasEngine, ScratchEngine, Task

FILES = ("metrics.json", "config.yaml", "history.csv", "predictions.npz")


@dataclass(frozen=True)
class Result:
    """One run: y_true is (samples,), y_prob (samples, units), both of the evaluation split."""

    name: str  # of the directory
    experiment: Experiment
    metrics: dict[str, Any]
    history: pd.DataFrame
    y_true: np.ndarray
    y_prob: np.ndarray

    @property
    def data_set(self) -> str:
        return self.experiment.data.name

    @property
    def stand_in(self) -> bool:
        return self.source == "synthetic"

    @property
    def source(self) -> str:
        return str(self.metrics["data_source"])

    @property
    def regression(self) -> bool:
        return self.experiment.data.task is Task.regression

    @property
    def split(self) -> str:
        return "test" if "test/loss" in self.metrics else "valid"

    @property
    def loss(self) -> float:
        return float(self.metrics[f"{self.split}/loss"])

    @property
    def classes(self) -> list[str]:
        return self.experiment.data.classes or []

    @property
    def engine(self) -> str:
        engine = self.experiment.engine
        if isinstance(engine, ScratchEngine):
            return f"{engine.kind}/{engine.array.value}"
        return f"{engine.kind}/{engine.backend.value}" if isinstance(engine, KerasEngine) else engine.kind

    @cached_property
    def y_pred(self) -> np.ndarray:
        """Predicted class of each sample, (samples,)."""
        return predicted_classes(self.y_prob)

    @cached_property
    def correct(self) -> np.ndarray:
        """True where the predicted class is right, (samples,)."""
        return self.y_pred == self.y_true

    def notes(self) -> list[str]:
        """What a reader of its scores has to know; often nothing."""
        reason = rules.degenerate(self.experiment)
        return [f"does not learn: {reason}"] if reason else []


def read_all(runs: Path, names: Sequence[str] | None = None) -> list[Result]:
    """The runs under `runs` (those named, or all), in the order of their names.

    Raises DataError where there are none, one is missing, incomplete, or contradicts itself.
    """
    if names is None:
        present = runs.iterdir() if runs.is_dir() else ()
        names = sorted(entry.name for entry in present if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"expected finished runs in {runs}; found none; run `dvc repro`")
    return [read(runs / name) for name in sorted(names)]


def read(directory: Path) -> Result:
    """The run in `directory`; raises DataError, naming the file and what to do."""
    name = directory.name
    if not directory.is_dir():
        raise DataError(f"expected the run {directory}; found none; run `dvc repro train@{name}`")
    for file in FILES:
        if not (directory / file).is_file():
            raise _broken(directory, f"expected {file}; found none")
    try:
        metrics = json.loads((directory / "metrics.json").read_text())
        experiment = config.experiment(yaml.safe_load((directory / "config.yaml").read_text()))
        history = pd.read_csv(directory / "history.csv")
        with np.load(directory / "predictions.npz", allow_pickle=False) as arrays:
            y_true, y_prob = arrays["y_true"], arrays["y_prob"]
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        BadZipFile,
        yaml.YAMLError,
        ConfigError,
    ) as error:
        raise _broken(directory, f"expected a readable run; {' '.join(str(error).split())}") from error
    result = Result(name, experiment, metrics, history, y_true, y_prob)
    if problem := _problem(result):
        raise _broken(directory, problem)
    return result


def _broken(directory: Path, problem: str) -> DataError:
    name = directory.name
    return DataError(f"{directory}: {problem}; run `dvc repro train@{name}`, or remove the directory")


def _problem(result: Result) -> str | None:
    """The first thing that is wrong with a run that could be read, or None."""
    return _metrics_problem(result) or _history_problem(result) or _predictions_problem(result)


def _metrics_problem(result: Result) -> str | None:
    metrics, score = result.metrics, metric(result.experiment.data.task)
    if not isinstance(metrics, dict):
        return f"metrics.json: expected names and values; received {type(metrics).__name__}"
    numbers = (f"{result.split}/loss", f"{result.split}/{score}", "epochs", "seconds", "parameters")
    for key in numbers:
        value = metrics.get(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"metrics.json: expected a number for {key}; received {value}"
    missing = [key for key in ("data_source", "device") if not metrics.get(key)]
    return f"metrics.json: expected {missing[0]}; found none" if missing else None


def _history_problem(result: Result) -> str | None:
    score = metric(result.experiment.data.task)
    expected = ["epoch", "train/loss", f"train/{score}", "valid/loss", f"valid/{score}"]
    received = list(result.history.columns)
    if not set(expected) <= set(received) or result.history.empty:
        return f"history.csv: expected rows of {','.join(expected)}; received {len(result.history)} of {received}"
    return None


def _predictions_problem(result: Result) -> str | None:
    y_true, y_prob, task = result.y_true, result.y_prob, result.experiment.data.task
    units = rules.output_units(task, len(result.classes))
    if y_true.ndim != 1 or len(y_true) == 0 or y_prob.shape != (len(y_true), units):
        return (
            f"predictions.npz: expected y_true (samples,) and y_prob (samples, {units}); "
            f"received {y_true.shape} and {y_prob.shape}"
        )
    if not np.isfinite(y_prob).all() or not np.isfinite(y_true).all():
        return "predictions.npz: expected finite numbers; received NaN or infinity"
    if result.regression:
        score = float(np.abs(y_prob[:, 0] - y_true).mean())
    else:
        if not np.isin(y_true, range(len(result.classes))).all():
            return f"predictions.npz: expected labels 0 to {len(result.classes) - 1}; received others"
        score = float(result.correct.mean())
    name = f"{result.split}/{metric(task)}"
    if not math.isclose(score, result.metrics[name], rel_tol=1e-4, abs_tol=1e-6):
        return f"predictions.npz: expected {name} {result.metrics[name]:.6g} as metrics.json says; received {score:.6g}"
    return None
