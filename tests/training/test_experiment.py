"""`train`: a run is whole or absent, a failure keeps what can be kept, and the tracker hears of everything."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from twinnet.core.errors import DataError, DivergedError
from twinnet.core.history import History
from twinnet.core.schema import Experiment
from twinnet.training import progress
from twinnet.training.experiment import train
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

SMALL = ["engine=scratch_numpy", "epochs=30", "optimizer.learning_rate=0.1"]


class Listener:
    """A tracker that records its calls; `interrupt` makes it stop the training like Ctrl-C does."""

    def __init__(self, interrupt: bool = False) -> None:
        self.events: list[str] = []
        self.interrupt = interrupt
        self.error: BaseException | None = None

    def started(self, info: RunInfo) -> None:
        self.events.append("started")

    def progressed(self, history: History) -> None:
        if self.interrupt:
            raise KeyboardInterrupt
        self.events.append(str(history.epochs))

    def finished(self, run: Run) -> None:
        assert (run.directory / "metrics.json").exists()
        self.events.append("finished")

    def failed(self, error: BaseException) -> None:
        self.events.append("failed")
        self.error = error


def test_run_leaves_the_files_of_the_contract(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    experiment = compose("nba_scratch", *SMALL)
    listener = Listener()
    run = train(experiment, tiny_project / "runs" / "nba_scratch", root=tiny_project, tracker=listener)

    files = {path.relative_to(run.directory).as_posix() for path in run.directory.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "metrics.json", "history.csv", "history.npz", "predictions.npz", "scaling.json", "model.npz",
        "record.json",
    }  # fmt: skip
    assert listener.events == ["started", *map(str, range(1, 31)), "finished"]
    assert json.loads((run.directory / "metrics.json").read_text()) == run.metrics
    assert run.metrics["parameters"] == 17
    assert run.metrics["epochs"] == 30
    assert run.metrics["data_source"] == "synthetic"
    assert any("synthetic" in warning for warning in run.warnings)
    assert yaml.safe_load((run.directory / "config.yaml").read_text())["optimizer"]["learning_rate"] == 0.1


def test_metrics_are_those_of_the_saved_predictions(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    run = train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project)
    with np.load(run.directory / "predictions.npz") as saved:
        assert run.metrics["valid/accuracy"] == np.mean((saved["y_prob"][:, 0] > 0.5) == saved["y_true"])
    last = pd.read_csv(run.directory / "history.csv").iloc[-1]
    assert last["train/loss"] == run.metrics["train/loss"]
    assert last["valid/loss"] == pytest.approx(run.metrics["valid/loss"], abs=1e-9)


def test_second_run_replaces_the_first_whole(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    directory = tiny_project / "run"
    train(compose("nba_scratch", *SMALL), directory, root=tiny_project)
    (directory / "train.log").write_text("what Hydra writes beside a run stays")
    run = train(compose("nba_scratch", *SMALL, "epochs=7"), directory, root=tiny_project)
    assert len(pd.read_csv(directory / "history.csv")) == 7 == run.metrics["epochs"]
    assert (directory / "train.log").exists()


def test_limits_of_a_profile_cap_epochs_and_samples(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    run = train(compose("nba_scratch", *SMALL, "profile=smoke"), tiny_project / "run", root=tiny_project)
    assert run.metrics["epochs"] == run.experiment.limits.epochs


def test_diverged_run_saves_its_history_and_leaves_no_run(
    tiny_project: Path, compose: Callable[..., Experiment]
) -> None:
    experiment = compose(
        "nba_scratch", *SMALL, "data.task=regression", "data.classes=null", "data.target=ppg",
        "model.activation=identity", "optimizer.learning_rate=50", "epochs=400",
    )  # fmt: skip
    listener = Listener()
    with pytest.raises(DivergedError, match="last finite loss"):
        train(experiment, tiny_project / "run", root=tiny_project, tracker=listener)
    assert listener.events[-1] == "failed"
    assert not (tiny_project / "run").exists()
    (kept,) = (tiny_project / "outputs" / "failed").glob("*/history.csv")
    assert np.isfinite(pd.read_csv(kept).to_numpy()).all()


def test_diverged_run_without_room_is_reported(
    tiny_project: Path, compose: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    experiment = compose(
        "nba_points", "engine=scratch_numpy", "data.features=[apg,rpg]", "optimizer=gradient_descent",
        "optimizer.learning_rate=10", "epochs=40",
    )  # fmt: skip
    (tiny_project / "outputs").write_text("a file, where the folder should be")
    listener = Listener()
    with pytest.raises(DivergedError):
        train(experiment, tiny_project / "run", root=tiny_project, tracker=listener)
    assert isinstance(listener.error, DivergedError)
    assert "the history until then could not be saved" in caplog.text


def test_place_of_checkpoints_without_room_costs_no_run(
    tiny_project: Path, compose: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    (tiny_project / "build").write_text("a file, where the folder should be")
    assert train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project).metrics["epochs"] == 30
    assert "no checkpoint could be saved" in caplog.text


def test_interrupted_run_says_so_and_leaves_nothing(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    listener = Listener(interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project, tracker=listener)
    assert isinstance(listener.error, KeyboardInterrupt)
    assert not (tiny_project / "run").exists()


def test_missing_data_names_the_command_that_makes_it(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    (tiny_project / "data/processed/nba/table.csv").unlink()
    with pytest.raises(DataError, match="dvc repro preprocess@nba"):
        train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project)


def test_early_stopping_reports_the_epoch_of_its_weights(
    tiny_project: Path, compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = compose("nba_scratch", *SMALL, "epochs=400", "early_stopping.patience=3", "optimizer.learning_rate=2")
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    run = train(experiment, tiny_project / "run", root=tiny_project)
    history = pd.read_csv(run.directory / "history.csv")
    assert run.metrics["epochs"] < 400
    best = history.loc[history["valid/loss"].idxmin()]
    assert run.metrics["valid/loss"] == pytest.approx(best["valid/loss"], abs=1e-9)
    assert run.metrics["train/loss"] == best["train/loss"]


def test_result_folder_may_be_on_another_file_system(
    tiny_project: Path, compose: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tiny_project.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    place = other / f"twinnet-{os.getpid()}"
    try:
        (tiny_project / "runs").symlink_to(place)
        run = train(compose("nba_scratch", *SMALL), place / "a", root=tiny_project)
        again = train(compose("nba_scratch", *SMALL), tiny_project / "runs" / "a", root=tiny_project)
        assert Run.read(run.directory).metrics.keys() == Run.read(again.directory).metrics.keys()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_run_without_room_is_saved_elsewhere(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    (tiny_project / "full").write_text("a file, where the run's folder should be")
    with pytest.raises(DataError, match=r"expected room for the finished run; .*; the run is complete in .*rescued"):
        train(compose("nba_scratch", *SMALL), tiny_project / "full" / "run", root=tiny_project)
    (saved,) = (tiny_project / "outputs" / "rescued").iterdir()
    assert Run.read(saved).metrics["epochs"] == 30


FULL_DISK = """
import sys
from pathlib import Path
from twinnet.core import config
from twinnet.core.errors import exit_on_error
from twinnet.training.experiment import train
root, project, *overrides = sys.argv[1:]
with exit_on_error():
    train(config.experiment(config.compose(Path(root), "train", overrides)), Path(project) / "run", root=Path(project))
"""


def test_full_disk_costs_checkpoints_and_is_one_line(root: Path, tiny_project: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # bytes of a file: a write beyond fails

    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(root), str(tiny_project), *SMALL, "checkpoint_seconds=0"],
        capture_output=True, text=True, preexec_fn=no_room, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    _, warning, error = done.stderr.splitlines()  # the first one says that the data are synthetic
    assert "no checkpoint could be saved" in warning
    assert "expected room for the finished run" in error
    assert "no other place had room" in error


def test_staging_of_a_dead_process_is_removed(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tiny_project / "run" / f".staging-{dead.pid}"
    left.mkdir(parents=True)
    train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project)
    assert not left.exists()


def test_figures_that_fail_cost_no_run(
    tiny_project: Path, compose: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    def draw(run: Run) -> None:
        raise RuntimeError("no font")

    listener = Listener()
    run = train(compose("nba_scratch", *SMALL), tiny_project / "run", root=tiny_project, tracker=listener, draw=draw)
    assert Run.read(run.directory).metrics == run.metrics
    assert listener.events[-1] == "finished"
    assert "its figures are not drawn: RuntimeError: no font" in caplog.text
