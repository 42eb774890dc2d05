"""Trainings without an engine: the tracker is told what a real one tells, and the run's directory holds the contract."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml

from twinnet import config
from twinnet.config.schema import Experiment, Tracking
from twinnet.data.splits import Splits
from twinnet.engines.contract import Chunk, History
from twinnet.engines.scratch.fitted import Fitted
from twinnet.networks import describe
from twinnet.training import Run, Tracker, write_history

matplotlib.use("Agg")

ROWS = 40


def splits(experiment: Experiment) -> Splits:
    shape = describe(experiment).input_shape
    random = np.random.default_rng(0)
    X, y = random.normal(size=(ROWS, *shape)).astype(experiment.engine.dtype.value), random.integers(0, 2, ROWS)
    return Splits(
        X[:20], y[:20], X[20:], y[20:], None, None, "snapshot", "5" * 64, np.zeros(shape[-1]), np.ones(shape[-1])
    )


@pytest.fixture
def pretend(compose: Callable[..., Experiment]) -> Callable[..., Run]:
    """`pretend(tracker, directory, chunks=5, at=..., seed=3)`: tell the tracker of a training; returns its Run.

    `at(chunk)` is called before each chunk and may raise, as a training may.
    """

    def train(
        tracker: Tracker,
        directory: Path,
        *overrides: str,
        name: str = "nba_scratch",
        chunks: int = 5,
        at: Callable[[int], None] = lambda chunk: None,
        warnings: tuple[str, ...] = (),
    ) -> Run:
        experiment = compose(name, f"epochs={chunks * 10}", *overrides)
        try:
            run = _train(experiment, tracker, directory, chunks, at, warnings)
        except BaseException as error:
            tracker.failed(error)
            raise
        tracker.finished(run)
        return run

    return train


def _train(
    experiment: Experiment,
    tracker: Tracker,
    directory: Path,
    chunks: int,
    at: Callable[[int], None],
    warnings: tuple[str, ...],
) -> Run:
    data, network = splits(experiment), describe(experiment)
    tracker.started(experiment, data, network, "cpu")
    history = History()
    for chunk in range(chunks):
        at(chunk)
        loss = 1 / (1 + chunk + np.linspace(0, 1, 10))
        history.append(Chunk(loss, 1 - loss / 2, loss[-1] * 1.1, 1 - loss[-1] / 1.9))
        tracker.progressed(history)
    fitted = Fitted(network, network.initial_weights(experiment.model.init, experiment.seed, "float64"))
    y_prob = fitted.predict(data.X_valid)
    metrics = {
        "train/loss": float(history.train_loss[-1][-1]),
        "train/accuracy": float(history.train_metric[-1][-1]),
        "valid/loss": history.valid_loss[-1],
        "valid/accuracy": history.valid_metric[-1],
        "epochs": history.epochs,
        "seconds": round(time.perf_counter() % 1000, 3),
        "parameters": network.parameters(),
        "data_source": data.source,
        "device": "cpu",
    }
    run = Run(experiment, directory, metrics, history, warnings)
    _write(run, fitted, data.y_valid, y_prob)
    return run


def _write(run: Run, fitted: Fitted, y_true: np.ndarray, y_prob: np.ndarray) -> None:
    from matplotlib.figure import Figure

    (run.directory / "figures").mkdir(parents=True)
    (run.directory / "config.yaml").write_text(yaml.safe_dump(config.plain(run.experiment), sort_keys=False))
    (run.directory / "metrics.json").write_text(json.dumps(run.metrics))
    np.savez_compressed(run.directory / "predictions.npz", y_true=y_true, y_prob=y_prob)
    write_history(run.history, run.directory)
    fitted.save(run.directory)
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(run.history.valid_loss)
    figure.savefig(run.directory / "figures" / "curves.png")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout's root, whose store is mlflow.db in it."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made once: a migration takes seconds."""
    root = tmp_path_factory.mktemp("store")
    from twinnet.tracking.store import connect

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(Tracking(), root)
    return root / "mlflow.db"
