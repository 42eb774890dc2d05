"""`train`: a run is whole or absent, a failure keeps what can be kept, and the tracker hears of everything."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from twinnet.core.errors import DataError, DivergedError
from twinnet.core.history import History
from twinnet.core.network import Network
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.training import experiment as training
from twinnet.training.experiment import Run, train

SMALL = ["engine=scratch_numpy", "epochs=30", "optimizer.learning_rate=0.1"]


class Listener:
    """A tracker that writes down what it is told; `interrupt` makes it stop the training like Ctrl-C does."""

    def __init__(self, interrupt: bool = False) -> None:
        self.told: list[str] = []
        self.interrupt = interrupt
        self.error: BaseException | None = None

    def started(self, experiment: Experiment, splits: Splits, network: Network, device: str) -> None:
        self.told.append("started")

    def progressed(self, history: History) -> None:
        if self.interrupt:
            raise KeyboardInterrupt
        self.told.append(str(history.epochs))

    def finished(self, run: Run) -> None:
        assert (run.directory / "metrics.json").exists()
        self.told.append("finished")

    def failed(self, error: BaseException) -> None:
        self.told.append("failed")
        self.error = error


def test_a_run_leaves_the_files_of_the_contract(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    experiment = compose("nba_scratch", *SMALL)
    listener = Listener()
    run = train(experiment, tiny_project / "runs" / "nba_scratch", root=tiny_project, tracker=listener)

    files = {path.relative_to(run.directory).as_posix() for path in run.directory.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "metrics.json", "history.csv", "history.npz", "predictions.npz", "scaling.json", "model.npz",
        "figures/learning_curves.png", "figures/confusion_matrix.png", "figures/decision_boundary.png",
    }  # fmt: skip
    assert listener.told == ["started", *map(str, range(1, 31)), "finished"]
    assert json.loads((run.directory / "metrics.json").read_text()) == run.metrics
    assert run.metrics["parameters"] == 17
    assert run.metrics["epochs"] == 30
    assert run.metrics["data_source"] == "synthetic"
    assert any("stand-in" in warning for warning in run.warnings)
    assert yaml.safe_load((run.directory / "config.yaml").read_text())["optimizer"]["learning_rate"] == 0.1
    assert not list((tiny_project / "build" / "staging").iterdir())


def test_metrics_are_those_of_the_saved_predictions(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    run = train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project)
    with np.load(run.directory / "predictions.npz") as saved:
        assert run.metrics["valid/accuracy"] == np.mean((saved["y_prob"][:, 0] > 0.5) == saved["y_true"])
    last = pd.read_csv(run.directory / "history.csv").iloc[-1]
    assert last["train/loss"] == run.metrics["train/loss"]
    assert last["valid/loss"] == pytest.approx(run.metrics["valid/loss"], abs=1e-9)


def test_a_second_run_replaces_the_first_whole(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    directory = tiny_project / "run"
    train(compose("nba_scratch", *SMALL), directory, root=tiny_project)
    (directory / "train.log").write_text("what Hydra writes beside a run stays")
    run = train(compose("nba_scratch", *SMALL, "epochs=7"), directory, root=tiny_project)
    assert len(pd.read_csv(directory / "history.csv")) == 7 == run.metrics["epochs"]
    assert (directory / "train.log").exists()


def test_limits_of_a_profile_cap_epochs_and_samples(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    run = train(compose("nba_scratch", *SMALL, "profile=smoke"), tiny_project / "run", root=tiny_project)
    assert run.metrics["epochs"] == run.experiment.limits.epochs


def test_a_diverging_run_keeps_its_history_and_leaves_no_run(
    tiny_project: Path, compose: Callable[..., Experiment]
) -> None:
    experiment = compose(
        "nba_scratch", *SMALL, "data.task=regression", "data.classes=null", "data.target=ppg",
        "model.activation=identity", "optimizer.learning_rate=50", "epochs=400",
    )  # fmt: skip
    listener = Listener()
    with pytest.raises(DivergedError, match="last finite loss"):
        train(experiment, tiny_project / "run", root=tiny_project, tracker=listener)
    assert listener.told[-1] == "failed"
    assert not (tiny_project / "run").exists()
    (kept,) = (tiny_project / "outputs" / "failed").glob("*/history.csv")
    assert np.isfinite(pd.read_csv(kept).to_numpy()).all()


def test_an_interrupted_run_says_so_and_leaves_nothing(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    listener = Listener(interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project, tracker=listener)
    assert isinstance(listener.error, KeyboardInterrupt)
    assert not (tiny_project / "run").exists()
    assert not list((tiny_project / "build" / "staging").iterdir())


def test_missing_data_names_the_command_that_makes_it(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    (tiny_project / "data/processed/nba_players.csv").unlink()
    with pytest.raises(DataError, match="dvc repro tabulate"):
        train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project)


def test_early_stopping_reports_the_epoch_whose_weights_it_keeps(
    tiny_project: Path, compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = compose("nba_scratch", *SMALL, "epochs=400", "early_stopping.patience=3", "optimizer.learning_rate=2")
    monkeypatch.setattr(training, "LOG_SECONDS", 0.0)
    run = train(experiment, tiny_project / "run", root=tiny_project)
    history = pd.read_csv(run.directory / "history.csv")
    assert run.metrics["epochs"] < 400
    best = history.loc[history["valid/loss"].idxmin()]
    assert run.metrics["valid/loss"] == pytest.approx(best["valid/loss"], abs=1e-9)
    assert run.metrics["train/loss"] == best["train/loss"]
