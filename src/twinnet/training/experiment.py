"""Train one experiment: the one function that every entry point calls."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from twinnet.core import engine, paths, rules
from twinnet.core.augmentation import average_views
from twinnet.core.errors import DataError, DivergedError, TwinnetError, one_line_text
from twinnet.core.history import History
from twinnet.core.metrics import Predict, compute_metrics
from twinnet.core.monitor import Monitor
from twinnet.core.network import build_network
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE
from twinnet.core.schema import DeviceChoice, Experiment, KerasEngine
from twinnet.core.splits import Splits
from twinnet.training.checkpoint import Checkpoint, checkpoint_for
from twinnet.training.dataset import load_splits
from twinnet.training.device import Device, choose_device, choose_precision
from twinnet.training.fingerprint import fingerprint
from twinnet.training.progress import Progress
from twinnet.training.run import Metrics, Run, write_history, write_run
from twinnet.training.run_info import RunInfo, collect, now

log = logging.getLogger(__name__)

Fit = Callable[[Problem, Monitor], tuple[TrainedNetwork, float]]


class Tracker(Protocol):
    """Callbacks of a run. A tracker must not raise."""

    def started(self, info: RunInfo) -> None: ...

    def progressed(self, history: History) -> None: ...

    def finished(self, run: Run) -> None: ...

    def failed(self, error: BaseException) -> None: ...


@dataclass(frozen=True)
class Training:
    """An experiment with its data read, its device chosen and its problem built: ready to be fitted."""

    experiment: Experiment
    splits: Splits
    device: Device
    problem: Problem
    warnings: tuple[str, ...]


def fit(problem: Problem, monitor: Monitor) -> tuple[TrainedNetwork, float]:
    """Train with the problem's engine; return the network and the seconds it took."""
    start = time.perf_counter()
    return engine.fit(problem, monitor), time.perf_counter() - start


def train(
    experiment: Experiment,
    directory: Path,
    *,
    root: Path | None = None,
    tracker: Tracker | None = None,
    overrides: Sequence[str] = (),
    fit: Fit = fit,
    draw: Callable[[Run], object] | None = None,
) -> Run:
    """Train an experiment and leave its run in `directory`, as the contract of outputs says.

    The files appear in `directory` when all of them are complete, metrics.json last. A training that diverges leaves
    its history under outputs/failed/ instead. `overrides` are Hydra's, for the record; `fit` is another way to the
    trained network; `draw` adds pictures to the finished run before the tracker reads it.

    Raises ConfigError, DataError, DeviceError or DivergedError if the experiment cannot be trained.
    """
    root = root or paths.root()
    try:
        run = _train(experiment, directory, root, tracker, overrides, fit)
    except BaseException as error:
        if tracker:
            tracker.failed(error)
        _save_failed_history(error, root / "outputs" / "failed", experiment.name)
        raise
    try:
        if draw:
            draw(run)
    except Exception as error:  # the run is complete without them
        log.warning("%s: its figures are not drawn: %s", experiment.name, one_line_text(error))
    finally:
        if tracker:
            tracker.finished(run)
    log.info("%s: %s", experiment.name, _summary(run.metrics))
    return run


def prepare(experiment: Experiment, root: Path) -> Training:
    """Read the data, choose the device and build the problem."""
    rules.check(experiment)
    device = choose_device(experiment.device, experiment.engine)
    splits = load_splits(experiment.data, root=root, dtype=experiment.engine.dtype, samples=experiment.limits.samples)
    problem = build_problem(experiment, splits, device.kind)
    if isinstance(problem.engine, KerasEngine) and problem.engine.mixed_precision:
        device = replace(device, name=f"{device.name}, bfloat16")
    return Training(experiment, splits, device, problem, tuple(_warnings(experiment, splits)))


def _train(
    experiment: Experiment, directory: Path, root: Path, tracker: Tracker | None, overrides: Sequence[str], fit: Fit
) -> Run:
    training = prepare(experiment, root)
    for warning in training.warnings:
        log.warning("%s: %s", experiment.name, warning)
    network, splits = training.problem.network, training.splits
    info = collect(
        experiment, splits, network, training.device.name, root=root, overrides=overrides, warnings=training.warnings
    )
    if tracker:
        tracker.started(info)
    chosen = replace(experiment, engine=training.problem.engine, device=DeviceChoice(training.device.kind))
    with checkpoint_for(root, fingerprint(chosen, splits.digest), experiment.checkpoint_seconds) as checkpoint:
        trained, seconds, monitor = _fit(training, tracker, checkpoint, fit)
        metrics, predictions = _evaluate(training, trained.predict, monitor)
        metrics |= {
            "epochs": monitor.history.epochs,
            "seconds": round(seconds + checkpoint.seconds, 3),
            "parameters": network.parameters(),
            "data_source": splits.source,
            "device": training.device.name,
        }
        info = replace(info, ended=now())
        parts = (experiment, info, metrics, monitor.history, predictions, splits, trained)
        return _write_or_rescue(directory, root, experiment.name, lambda place: write_run(place, *parts))


def _fit(
    training: Training, tracker: Tracker | None, checkpoint: Checkpoint, fit: Fit
) -> tuple[TrainedNetwork, float, Monitor]:
    """Train from the checkpoint if there is one; a checkpoint that does not fit is set aside."""
    experiment, problem = training.experiment, training.problem
    with Progress(experiment.name, problem.epochs) as progress:
        listeners: tuple[Callable[[History], None], ...] = (progress,)
        if tracker:
            listeners += (tracker.progressed,)
        monitor = Monitor(problem.metric, experiment.early_stopping, listeners, checkpoint)
        try:
            return *fit(problem, monitor), monitor
        except TwinnetError:
            raise
        except Exception as error:
            if not monitor.is_resuming:
                raise
            checkpoint.set_aside(error)
        monitor = Monitor(problem.metric, experiment.early_stopping, listeners, checkpoint)
        return *fit(problem, monitor), monitor


def build_problem(experiment: Experiment, splits: Splits, device: str) -> Problem:
    """Return the problem that an engine solves: the network, its initial weights, the data and the settings."""
    network, dtype = build_network(experiment), experiment.engine.dtype.value
    samples = len(splits.X_train)
    return Problem(
        network=network,
        weights=network.initial_weights(experiment.model.init, experiment.seed, dtype),
        loss=rules.loss(experiment),
        task=experiment.data.task,
        optimizer=experiment.optimizer,
        engine=choose_precision(experiment.engine, device),
        X_train=splits.X_train,
        y_train=splits.y_train,
        X_valid=splits.X_valid,
        y_valid=splits.y_valid,
        epochs=experiment.trained_epochs,
        batch_size=min(experiment.batch_size or samples, samples),
        seed=experiment.seed,
        device=device,
        augmentation=experiment.augmentation,
        label_smoothing=experiment.label_smoothing,
        ema=experiment.ema,
    )


def _warnings(experiment: Experiment, splits: Splits) -> list[str]:
    warnings = []
    if reason := rules.degenerate(experiment):
        warnings.append(f"degenerate: {reason}")
    if splits.source == SYNTHETIC:
        warnings.append(f"{SYNTHETIC_NOTE}; its figures say nothing about the real data")
    return warnings


def _evaluate(training: Training, predict: Predict, monitor: Monitor) -> tuple[Metrics, tuple[np.ndarray, np.ndarray]]:
    """Metrics of each split, and labels and predictions of the evaluation split.

    train/… is what the epoch of the final weights recorded; valid/… and test/… are computed from the final weights.
    """
    experiment, splits, history = training.experiment, training.splits, monitor.history
    row = history.table().set_index("epoch").loc[monitor.best_epoch or history.epochs]
    metrics: Metrics = {str(name): float(value) for name, value in row.items() if str(name).startswith("train/")}
    split, X, y = splits.evaluation
    evaluated = {"valid": (splits.X_valid, splits.y_valid), split: (X, y)}
    predict = average_views(predict, experiment.augmentation)
    for name, (X, y) in evaluated.items():
        y_prob = predict(X)
        for key, value in compute_metrics(experiment.data.task, rules.loss(experiment), y, y_prob).items():
            metrics[f"{name}/{key}"] = float(value)
    return metrics, (y, y_prob)


def _write_or_rescue(directory: Path, root: Path, name: str, write: Callable[[Path], Run]) -> Run:
    """Write the run; if its place has no room for it, elsewhere, and raise DataError that names the place."""
    try:
        return write(directory)
    except OSError as error:
        rest = "no other place had room either; the same command resumes from the last checkpoint"
        unique = f"{name}-{now()}-{os.getpid()}"
        for place in (root / "outputs" / "rescued" / unique, Path(tempfile.gettempdir()) / f"twinnet-{unique}"):
            try:
                write(place)
            except OSError:
                shutil.rmtree(place, ignore_errors=True)
            else:
                rest = f"the run is complete in {place}; move it when there is room"
                break
        raise DataError(
            f"{directory}: expected room for the finished run; received: {error.strerror or error}; {rest}"
        ) from error


def _save_failed_history(error: BaseException, folder: Path, name: str) -> None:
    if isinstance(error, DivergedError) and isinstance(error.history, History) and error.history.epochs:
        directory = folder / f"{name}-{now()}-{os.getpid()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_history(error.history, directory)
        except OSError as problem:
            log.warning("the history until then could not be saved (%s)", problem.strerror or problem)
        else:
            log.error("the history until then is in %s", directory)


def _summary(metrics: Metrics) -> str:
    scores = [f"{key} {value:.4f}" for key, value in metrics.items() if isinstance(value, float) and "/" in key]
    return f"{', '.join(scores)}; {metrics['epochs']} epochs in {metrics['seconds']} s on {metrics['device']}"
