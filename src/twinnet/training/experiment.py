"""`train(experiment, directory) -> Run`: the one function that every entry point calls."""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml
from tqdm import tqdm

from twinnet.core import config, engine, paths, rules
from twinnet.core import metrics as evaluation
from twinnet.core.errors import DivergedError
from twinnet.core.history import History
from twinnet.core.monitor import Monitor
from twinnet.core.network import Network, build_network
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.figures import run as figures
from twinnet.training import checkpoint as checkpoints
from twinnet.training import device as devices
from twinnet.training import fingerprint
from twinnet.training.dataset import load_splits

log = logging.getLogger(__name__)

Metrics = dict[str, float | int | str]
Fit = Callable[[Problem, Monitor], tuple[TrainedNetwork, float]]
LOG_SECONDS = 10.0  # between two lines about a running training where no terminal shows a bar


@dataclass(frozen=True)
class Run:
    """A finished run: what lies in its directory, read back or just written."""

    experiment: Experiment
    directory: Path
    metrics: Metrics
    history: History
    warnings: tuple[str, ...] = ()


class Tracker(Protocol):
    """Who is told about a run while it happens; nothing that a tracker does may fail a training."""

    def started(self, experiment: Experiment, splits: Splits, network: Network, device: str) -> None: ...

    def progressed(self, history: History) -> None: ...

    def finished(self, run: Run) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class Untracked:
    """A tracker that nobody listens to."""

    def started(self, experiment: Experiment, splits: Splits, network: Network, device: str) -> None:
        pass

    def progressed(self, history: History) -> None:
        pass

    def finished(self, run: Run) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass


def fit(problem: Problem, monitor: Monitor) -> tuple[TrainedNetwork, float]:
    """Train with the problem's engine: the network, and how many seconds that took."""
    start = time.perf_counter()
    return engine.fit(problem, monitor), time.perf_counter() - start


def train(
    experiment: Experiment,
    directory: Path,
    *,
    root: Path | None = None,
    tracker: Tracker | None = None,
    fit: Fit = fit,
) -> Run:
    """Train an experiment and leave its run in `directory`, as the contract of outputs says.

    The files appear in `directory` only when all of them are complete, metrics.json last. A failed training leaves
    its history and the reason under outputs/failed/ instead. `fit` is another way to the trained network.

    Raises DataError, DeviceError or DivergedError where the experiment cannot be trained.
    """
    root, tracker = root or paths.root(), tracker or Untracked()
    staging = Path(tempfile.mkdtemp(prefix=f"{experiment.name}-", dir=_folder(root / "build" / "staging")))
    try:
        run = _train(experiment, staging, root, tracker, fit)
        _hand_over(staging, directory)
        run = Run(experiment, directory, run.metrics, run.history, run.warnings)
        tracker.finished(run)
        log.info("%s: %s", experiment.name, _summary(run.metrics))
        return run
    except BaseException as error:
        _keep_failure(error, root / "outputs" / "failed" / staging.name)
        tracker.failed(error)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _train(experiment: Experiment, directory: Path, root: Path, tracker: Tracker, fit: Fit) -> Run:
    rules.check(experiment)
    device = devices.choose_device(experiment.device, experiment.engine)
    dtype = experiment.engine.dtype.value
    splits = load_splits(experiment.data, root=root, dtype=dtype, samples=experiment.limits.samples)
    problem = build_problem(experiment, splits, device.kind)
    warnings = _warnings(experiment, splits)
    for warning in warnings:
        log.warning("%s: %s", experiment.name, warning)
    tracker.started(experiment, splits, problem.network, device.name)

    key = fingerprint.key(experiment, splits.digest)
    with checkpoints.checkpoint_for(root, key, experiment.checkpoint_seconds) as checkpoint:
        with _Progress(experiment.name, problem.epochs) as progress:
            monitor = Monitor(problem.metric, experiment.early_stopping, (progress, tracker.progressed), checkpoint)
            fitted, seconds = fit(problem, monitor)
        predict = evaluation.flip_tta(fitted.predict) if experiment.augmentation.flip_at_test else fitted.predict
        metrics, (y_true, y_prob) = _evaluate(experiment, splits, predict, monitor)
        metrics |= {
            "epochs": monitor.history.epochs,
            "seconds": round(seconds + checkpoint.seconds, 3),
            "parameters": problem.network.parameters(),
            "data_source": splits.source,
            "device": device.name,
        }
        run = Run(experiment, directory, metrics, monitor.history, warnings)
        _write(run, splits, fitted, y_true, y_prob)
    figures.draw_run(_folder(directory / "figures"), experiment, splits, run.history, y_true, y_prob, predict)
    return run


def build_problem(experiment: Experiment, splits: Splits, device: str) -> Problem:
    """The problem that an engine solves: the network, its initial weights, the data and the settings."""
    network, dtype = build_network(experiment), experiment.engine.dtype.value
    epochs = min(experiment.epochs, experiment.limits.epochs or experiment.epochs)
    samples = len(splits.X_train)
    return Problem(
        network=network,
        weights=network.initial_weights(experiment.model.init, experiment.seed, dtype),
        loss=rules.loss(experiment),
        task=experiment.data.task,
        optimizer=experiment.optimizer,
        engine=experiment.engine,
        X_train=splits.X_train,
        y_train=splits.y_train,
        X_valid=splits.X_valid,
        y_valid=splits.y_valid,
        epochs=epochs,
        batch_size=min(experiment.batch_size or samples, samples),
        seed=experiment.seed,
        device=device,
        augmentation=experiment.augmentation,
        label_smoothing=experiment.label_smoothing,
        ema=experiment.ema,
    )


def _warnings(experiment: Experiment, splits: Splits) -> tuple[str, ...]:
    warnings = []
    if reason := rules.degenerate(experiment):
        warnings.append(f"degenerate: {reason}")
    if splits.source == "synthetic":
        warnings.append("stand-in: trained on synthetic stand-in data, so its figures say nothing about the real data")
    return tuple(warnings)


def _evaluate(
    experiment: Experiment, splits: Splits, predict: evaluation.Predict, monitor: Monitor
) -> tuple[Metrics, tuple[np.ndarray, np.ndarray]]:
    """Metrics of each split, and labels and predictions of the evaluation split.

    train/… is what the epoch of the kept weights recorded; valid/… and test/… are computed from the kept weights.
    """
    history, task, loss = monitor.history, experiment.data.task, rules.loss(experiment)
    kept = history.table().set_index("epoch").loc[monitor.best_epoch or history.epochs]
    metrics: Metrics = {str(name): float(value) for name, value in kept.items() if str(name).startswith("train/")}
    evaluated = {"valid": (splits.X_valid, splits.y_valid)}
    if splits.X_test is not None and splits.y_test is not None:
        evaluated["test"] = (splits.X_test, splits.y_test)
    for name, (X, y) in evaluated.items():
        y_prob = predict(X)
        for key, value in evaluation.compute_metrics(task, loss, y, y_prob).items():
            metrics[f"{name}/{key}"] = float(value)
    return metrics, (y, y_prob)


def _write(run: Run, splits: Splits, fitted: TrainedNetwork, y_true: np.ndarray, y_prob: np.ndarray) -> None:
    directory = run.directory
    (directory / "config.yaml").write_text(yaml.safe_dump(config.plain(run.experiment), sort_keys=False))
    (directory / "metrics.json").write_text(json.dumps(run.metrics, indent=2) + "\n")
    scaling = {"mean": splits.mean.tolist(), "scale": splits.scale.tolist()}
    (directory / "scaling.json").write_text(json.dumps(scaling) + "\n")
    write_history(run.history, directory)
    np.savez_compressed(directory / "predictions.npz", y_true=y_true, y_prob=y_prob)
    fitted.save(directory)


def write_history(history: History, directory: Path) -> None:
    """history.csv, at most 1,000 rows, and history.npz, the whole of it, where it was not thinned."""
    history.table().to_csv(directory / "history.csv", index=False)
    np.savez_compressed(directory / "history.npz", **history.arrays())  # type: ignore[arg-type]  # names hold "/"


def _hand_over(staging: Path, directory: Path) -> None:
    """Move the files of a complete run to their place; metrics.json, which says that it is complete, goes last."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.json").unlink(missing_ok=True)
    for entry in sorted(staging.iterdir(), key=lambda entry: entry.name == "metrics.json"):
        target = directory / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)


def _keep_failure(error: BaseException, directory: Path) -> None:
    if isinstance(error, DivergedError) and isinstance(error.history, History) and error.history.epochs:
        write_history(error.history, _folder(directory))
        log.error("the history until then is kept in %s", directory)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _summary(metrics: Metrics) -> str:
    told = [f"{key} {value:.4f}" for key, value in metrics.items() if isinstance(value, float) and "/" in key]
    return f"{', '.join(told)}; {metrics['epochs']} epochs in {metrics['seconds']} s on {metrics['device']}"


class _Progress:
    """A bar on a terminal, else a line every LOG_SECONDS."""

    def __init__(self, name: str, epochs: int) -> None:
        self.bar = tqdm(total=epochs, desc=name, unit=" epochs", disable=None, leave=False)
        self.name, self.epochs, self.last = name, epochs, time.monotonic()
        self.report: Callable[[History], None] = self._line if self.bar.disable else self._bar

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, history: History) -> None:
        self.report(history)

    def _bar(self, history: History) -> None:
        self.bar.update(history.epochs - self.bar.n)
        self.bar.set_postfix(loss=f"{history.train_loss[-1][-1]:.4f}", valid=f"{history.valid_loss[-1]:.4f}")

    def _line(self, history: History) -> None:
        if time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            log.info(
                "%s: epoch %d of %d, train/loss %.4f, valid/loss %.4f, valid/%s %.4f",
                self.name, history.epochs, self.epochs, history.train_loss[-1][-1], history.valid_loss[-1],
                history.metric, history.valid_metric[-1],
            )  # fmt: skip
