"""A network as an MLflow model, whose answer names the classes; one of the scratch engine carries its code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow.models import Model

from twinnet.core import network as networks
from twinnet.core.metrics import class_probabilities
from twinnet.core.network import Network, build_network
from twinnet.core.schema import Experiment, Tracking
from twinnet.engines.scratch.model import KINDS, ScratchNetwork
from twinnet.tracking import models
from twinnet.tracking.served_model import ServedModel
from twinnet.training.run import Run

NETWORKS = {
    "dense": ["model=mlp", "model.hidden_units=[8]", "model.dropout=0.1", "model.activation=tanh"],
    "convolutions": ["model=cnn_small", "model.filters=[4,6]", "model.stem_stride=2", "model.batch_norm=true"],
    "residual": ["model=resnet20", "model.filters=[4,6]", "model.blocks=2"],
    "residual, normalised first": [
        "model=resnet20", "model.filters=[4,6]", "model.blocks=1", "model.pre_activation=true", "model.dropout=0.1",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def described(compose: Callable[..., Experiment]) -> dict[str, Network]:
    return {name: build_network(compose("fashion_dense_scratch", *model)) for name, model in NETWORKS.items()}


LOAD = """
import sys
import mlflow.pyfunc, numpy as np
folder, inputs, outputs = sys.argv[1:]
path = list(sys.path)
answer = mlflow.pyfunc.load_model(folder).predict(np.load(inputs))
assert list(answer) == ["guard", "forward"], answer
np.save(outputs, answer)
import twinnet
assert twinnet.__file__.startswith(folder), twinnet.__file__
assert sys.path == path, sys.path
"""


def trained_network(network: Network) -> ScratchNetwork:
    random, shapes = np.random.default_rng(0), network.shapes()
    weights = [
        {
            key: random.uniform(0.1, 1, size) - (0.5 if key == "W" else 0)
            for key, size in layer.weight_shapes(shape).items()
        }
        for layer, shape in zip(network.layers, shapes, strict=False)
    ]
    return ScratchNetwork(network, weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_logged_model_predicts_what_the_engine_predicts(
    name: str, described: dict[str, Network], tmp_path: Path
) -> None:
    network = trained_network(described[name])
    logged, classes = ServedModel(), [f"class {label}" for label in range(10)]
    saved = {"model": str(network.save(tmp_path))}
    logged.load_context(SimpleNamespace(artifacts=saved, model_config={"columns": classes}))
    X = np.random.default_rng(1).random((5, *network.network.input_shape))
    answer = logged.predict(None, X)
    assert list(answer) == classes
    np.testing.assert_array_equal(answer, network.predict(X))


def test_logged_folder_predicts_with_its_own_code(train: Callable[..., Run], tmp_path: Path) -> None:
    """Also if the folder of another run of its kind was made before."""
    other, run = (train(f"seed={seed}", settings=Tracking(enabled=False)) for seed in (1, 2))
    models.write(other, tmp_path / "other", "1" * 32, "m-1")
    models.write(run, tmp_path / "model", "0" * 32, "m-0")
    form = Model.load(tmp_path / "model")
    assert (form.run_id, form.model_id) == ("0" * 32, "m-0")
    files = [path.name for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert len(files) <= 9, "each run of a sweep sends them one by one"
    assert "twinnet.zip" in files
    X = np.random.default_rng(1).normal(size=(9, 2))
    np.save(tmp_path / "X.npy", X)
    command = [
        sys.executable,
        "-P",
        "-c",
        LOAD,
        str(tmp_path / "model"),
        str(tmp_path / "X.npy"),
        str(tmp_path / "y.npy"),
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), class_probabilities(run.network().predict(X)))


def test_every_layer_is_predicted(described: dict[str, Network]) -> None:
    tried = {type(layer).__name__ for network in described.values() for layer in network.layers}
    assert tried == set(KINDS) == {kind.__name__ for kind in networks.Layer.__args__}
