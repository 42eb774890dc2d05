"""The notebooks that read finished runs, on those of the whole pipeline on small settings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.notebook import execute
from tests.pipelines.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]


def test_fashion_mnist_reads_the_runs_of_the_suite(root: Path, copy: Callable[[], Project]) -> None:
    folder = copy().folder
    output = execute(root / "notebooks/02_fashion_mnist.py", folder, EPOCHS=1, SAMPLES=200)
    assert "Dense" in output
    assert (folder / "outputs/notebooks/fashion_mine/metrics.json").exists()


def test_compare_runs_reads_the_store_and_sweeps(root: Path, copy: Callable[[], Project]) -> None:
    """Beside the suite, the store has an earlier sweep, tagged as `dvc exp run` tags a variant; neither is mixed in."""
    mine = copy()
    mine.run("python", "-m", "pipelines.params", "write", *mine.overrides(tracked=True))
    mine.run("python", "-m", "pipelines.publish")
    overrides = ["experiment=nba_scratch", "epochs=2", "seed=1,2", "optimizer.learning_rate=0.3"]
    mine.run("env", "DVC_STAGE=train@nba_scratch", "python", "-m", "twinnet.train", "-m", *overrides)
    folder = mine.folder
    output = execute(root / "notebooks/03_compare_runs.py", folder, EPOCHS=20, SEEDS="1,2", RATES="0.01,0.1")
    assert "nba_keras_book" in output
    losses = [line.split() for line in output.splitlines() if line.startswith(("train/loss", "valid/loss"))]
    assert losses
    assert all(float(value) < 1e-10 for _, value in losses), "the newest run has no twin"
    averaged = output.partition("overrides")[2]
    assert "optimizer.learning_rate=0.1" in averaged
    assert "learning_rate=0.3" not in averaged
