"""The file that is logged with a network of the scratch engine: NumPy alone gives what the engine gives."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from twinnet.core import network as networks
from twinnet.core.network import Network, build_network
from twinnet.core.schema import Experiment
from twinnet.engines.scratch.model import KINDS, ScratchNetwork

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


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logged_file_predicts_what_the_engine_predicts(
    name: str, described: dict[str, Network], tmp_path: Path
) -> None:
    from twinnet.tracking.numpy_model import NumpyNetwork

    random, network = np.random.default_rng(0), described[name]
    weights = [
        {key: random.uniform(0.1, 1, shape) - (0.5 if key == "W" else 0) for key, shape in shapes.items()}
        for shapes in (
            layer.weight_shapes(shape) for layer, shape in zip(network.layers, network.shapes(), strict=False)
        )
    ]
    fitted = ScratchNetwork(network, weights)
    logged = NumpyNetwork()
    logged.load_context(SimpleNamespace(artifacts={"model": fitted.save(tmp_path)}))
    X = random.random((5, *network.input_shape))
    np.testing.assert_allclose(logged.predict(None, X), fitted.predict(X), rtol=1e-9, atol=1e-12)


def test_every_layer_is_tried(described: dict[str, Network]) -> None:
    tried = {type(layer).__name__ for network in described.values() for layer in network.layers}
    assert tried == set(KINDS) == {kind.__name__ for kind in networks.Layer.__args__}
