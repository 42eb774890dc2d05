"""Experiments on Fashion-MNIST outside the suite: a few steps of each network on random images."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from tests.processed import write_arrays
from twinnet.core import config
from twinnet.core.network import build_network
from twinnet.core.schema import Backend, Experiment, KerasEngine
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.sweeps import expand
from twinnet.training.experiment import train

pytestmark = pytest.mark.xdist_group("keras")  # one worker loads TensorFlow
RECIPES = ("fashion_dense_best", "fashion_cnn_long", "fashion_resnet20", "fashion_best")


@pytest.fixture
def garments(tmp_path: Path) -> Path:
    """Return a project root with a few random images in the place of Fashion-MNIST."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, samples in (("train", 26), ("test", 10)):
        arrays[f"X_{split}"] = random.integers(0, 256, (samples, 28, 28), dtype=np.uint8)
        arrays[f"y_{split}"] = (np.arange(samples) % 10).astype(np.uint8)
    write_arrays(tmp_path, "fashion_mnist", arrays)
    return tmp_path


WHOLE = [pytest.param(name, (), marks=pytest.mark.slow) for name in RECIPES[:-1]]
LARGEST = [
    pytest.param("fashion_best", ("model.filters=[16,32,64]", "model.blocks=1"), marks=pytest.mark.slow, id="small"),
    pytest.param("fashion_best", (), marks=pytest.mark.exhaustive, id="fashion_best"),  # 36 million weights
]


@pytest.mark.parametrize(("name", "changes"), WHOLE + LARGEST)
def test_each_recipe_trains(
    name: str, changes: tuple[str, ...], garments: Path, compose: Callable[..., Experiment]
) -> None:
    """On TensorFlow, which compiles nothing for a CPU; tests/engines/keras/test_keras_jax.py covers JAX."""
    experiment = compose(name, "epochs=2", "batch_size=8", "data.valid_samples=10", *changes)
    assert isinstance(experiment.engine, KerasEngine)
    on_tensorflow = replace(experiment.engine, backend=Backend.tensorflow, mixed_precision=False)
    run = train(replace(experiment, engine=on_tensorflow), garments / "run", root=garments)
    assert run.metrics["epochs"] == 2
    assert np.isfinite(run.metrics["test/loss"])
    assert (run.directory / "model.keras").is_file()


@pytest.mark.real_data
@pytest.mark.exhaustive  # minutes of both cores
def test_narrow_resnet_is_more_accurate_than_the_best_dense_network(
    root: Path,
    mirror: Path,
    tmp_path: Path,
    compose: Callable[..., Experiment],
    compose_suite: Callable[..., DictConfig],
) -> None:
    """ResNet-20 with a sixteenth of its weights, trained for 12 epochs rather than 200: 92.39% against 91.39%."""
    page = (root / "docs/fashion_mnist.md").read_text(encoding="utf-8")
    dense_best = re.search(r"`fashion_dense_best` .* ([\d.]+)% ±", page)
    assert dense_best, "expected its accuracy in the table of docs/fashion_mnist.md"
    dataset = config.dataset(compose_suite("datasets.fashion_mnist.source=real").datasets.fashion_mnist)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    smaller = ("model.filters=[4,8,16]", "model.l2=0.0001", "epochs=12", "batch_size=125", "ema=null")
    recipe = ("optimizer.learning_rate=0.1", "augmentation.erase=0", "augmentation.shift=1")
    views = ("augmentation.shift_at_test=1", "engine.backend=tensorflow", "engine.mixed_precision=false")
    experiment = compose("fashion_resnet20", *smaller, *recipe, *views)
    whole, narrow = (build_network(chosen).parameters() for chosen in (compose("fashion_resnet20"), experiment))
    assert narrow < whole / 15
    run = train(experiment, tmp_path / "run", root=tmp_path)
    assert run.metrics["test/accuracy"] > float(dense_best[1]) / 100


def test_amounts_of_data_are_a_sweep(root: Path, garments: Path) -> None:
    shutil.copytree(root / "conf", garments / "conf")
    words = ["experiment=fashion_dense", "data.train_fraction=0.01,0.1,1.0", "seed=1,2,3", "objective=valid/accuracy"]
    jobs, _ = expand.expand_jobs(garments, words)
    chosen = {(job.experiment.seed, job.experiment.data.train_fraction) for job in jobs}
    assert len(jobs) == len(chosen) == 9


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("fashion_resnet20", 272_778), ("fashion_best", 36_489_002)],
)
def test_published_networks_have_their_sizes(name: str, parameters: int, compose: Callable[..., Experiment]) -> None:
    """About 0.27 million (He et al. 2016, table 6) and 36.5 million (Zagoruyko and Komodakis 2016, table 5)."""
    assert build_network(compose(name)).parameters() == parameters
