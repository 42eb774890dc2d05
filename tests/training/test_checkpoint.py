"""A training that is killed goes on from its checkpoint and ends with the same bits as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.faults import CHECKPOINT_DAMAGES, Interruption
from twinnet.core.errors import DivergedError
from twinnet.core.schema import Experiment
from twinnet.training import checkpoint, experiment
from twinnet.training.device import Device
from twinnet.training.experiment import train

SCRATCH = (
    "nba_scratch",
    "engine=scratch_numpy",
    "epochs=40",
    "optimizer=adam",
    "batch_size=16",
    "checkpoint_seconds=0",
)
ENGINES = {
    "numpy": ("engine=scratch_numpy", "model=mlp_small", "model.dropout=0.2"),
    "jax": ("engine=scratch", "early_stopping.patience=30"),
    "keras": (
        "engine=keras", "model=mlp_small", "model.dropout=0.2", "model.batch_norm=true", "ema=0.9",
        "early_stopping.patience=30",
    ),
}  # fmt: skip


def files(directory: Path) -> dict[str, bytes]:
    """What a run computed, to the bit; not the seconds that it took."""
    metrics = json.loads((directory / "metrics.json").read_text())
    kept = {key: value for key, value in metrics.items() if key != "seconds"}
    with np.load(directory / "predictions.npz") as predictions, np.load(directory / "history.npz") as history:
        arrays = {name: value.tobytes() for name, value in {**predictions, **history}.items()}
    return arrays | {"metrics": json.dumps(kept).encode()}


@pytest.mark.parametrize("engine", ["numpy", "jax", pytest.param("keras", marks=pytest.mark.xdist_group("keras"))])
def test_resumed_training_ends_with_the_same_bits(
    engine: str, tiny_project: Path, compose: Callable[..., Experiment]
) -> None:
    experiment = compose(*SCRATCH, *ENGINES[engine])
    whole = train(experiment, tiny_project / "whole", root=tiny_project)
    cut = Interruption(epochs=17)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, tiny_project / "cut", root=tiny_project, tracker=cut)
    assert not (tiny_project / "cut").exists()
    resumed = Interruption(epochs=-1)
    run = train(experiment, tiny_project / "cut", root=tiny_project, tracker=resumed)
    assert resumed.seen[0] > 1, "it started over"
    assert files(run.directory) == files(whole.directory)
    assert not list((tiny_project / checkpoint.CHECKPOINTS).glob("*/")), "nothing is left of a run that ended"


def test_another_configuration_starts_over(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(compose(*SCRATCH), tiny_project / "run", root=tiny_project, tracker=Interruption(epochs=17))
    other = Interruption(epochs=-1)
    train(compose(*SCRATCH, "seed=1"), tiny_project / "run", root=tiny_project, tracker=other)
    assert other.seen[0] == 1


def test_checkpoint_is_of_the_device_that_was_chosen(
    tiny_project: Path, compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def epochs_before(*words: str) -> int:
        """Epochs that a training begins with, before it is cut."""
        cut = Interruption(epochs=17)
        with pytest.raises(KeyboardInterrupt):
            train(compose(*SCRATCH, *words), tiny_project / "run", root=tiny_project, tracker=cut)
        return cut.seen[0] - 1

    assert epochs_before("device=auto") == 0
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "choose_device", lambda *_: Device("gpu", "gpu: H100"))
        assert epochs_before("device=auto") == 0
    assert epochs_before("device=cpu") > 0


@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGES)
def test_unfit_checkpoint_is_set_aside(damage: str, tiny_project: Path, compose, caplog) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(compose(*SCRATCH), tiny_project / "run", root=tiny_project, tracker=Interruption(epochs=17))
    [file] = (tiny_project / checkpoint.CHECKPOINTS).glob("*/state.npz")
    CHECKPOINT_DAMAGES[damage](file)
    again = Interruption(epochs=-1)
    train(compose(*SCRATCH), tiny_project / "run", root=tiny_project, tracker=again)
    assert again.seen[0] == 1
    assert "does not fit" in caplog.text


def test_diverged_training_leaves_no_checkpoint(tiny_project: Path, compose) -> None:
    diverging = compose("nba_points", "epochs=40", "optimizer=gradient_descent", "optimizer.learning_rate=10",
                        "data.features=[apg,rpg]", "checkpoint_seconds=0")  # fmt: skip
    with pytest.raises(DivergedError):
        train(diverging, tiny_project / "run", root=tiny_project)
    assert not list((tiny_project / checkpoint.CHECKPOINTS).glob("*/"))


def test_leftovers_of_killed_trainings_are_removed(tiny_project: Path, compose: Callable[..., Experiment]) -> None:
    staging = tiny_project / "run" / ".staging-99999999"  # the id of no process
    lock = tiny_project / checkpoint.CHECKPOINTS / "killed.lock"
    staging.mkdir(parents=True)
    lock.parent.mkdir(parents=True)
    lock.touch()
    train(compose(*SCRATCH), tiny_project / "run", root=tiny_project)
    assert not staging.exists()
    assert not lock.exists()


def test_checkpoint_is_not_shared_between_processes(tmp_path: Path) -> None:
    with checkpoint.checkpoint_for(tmp_path, "key", 0) as first:
        first.save({"history/valid_epoch": np.array([3])})
        with checkpoint.checkpoint_for(tmp_path, "key", 0) as second:
            assert second.load() is None
            assert not second.due()
        assert first.load() is not None


KILLED = """
import logging, sys
from pathlib import Path
from twinnet.core import config
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from twinnet.training.experiment import train
root, project, *overrides = sys.argv[1:]
train(config.experiment(config.compose(Path(root), "train", overrides)), Path(project) / "run", root=Path(project))
"""


@pytest.mark.parametrize("engine", ["numpy", pytest.param("keras", marks=pytest.mark.exhaustive)])
def test_it_resumed_after_kill_9(
    engine: str, root: Path, tiny_project: Path, compose: Callable[..., Experiment]
) -> None:
    name, *settings = SCRATCH
    overrides = [f"experiment={name}", *settings, *ENGINES[engine], "epochs=300", "early_stopping.patience=null"]
    command = [sys.executable, "-c", KILLED, str(root), str(tiny_project), *overrides]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_epoch(tiny_project, 20, process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resumes from the checkpoint" in done.stdout
    whole = train(compose(name, *overrides[1:]), tiny_project / "whole", root=tiny_project)
    assert files(tiny_project / "run") == files(whole.directory)


def _wait_for_epoch(project: Path, epoch: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for file in (project / checkpoint.CHECKPOINTS).glob("*/state.npz"):
            with np.load(file) as kept:
                if kept["history/valid_epoch"][-1] >= epoch:
                    return
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint after epoch {epoch}")
