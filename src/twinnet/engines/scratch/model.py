"""A trained network: predictions with NumPy alone, and a model.npz that holds numbers and a description as JSON."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from twinnet.core import network as networks
from twinnet.core.errors import DataError
from twinnet.core.network import Dense, Layer, Network, Weights
from twinnet.core.paths import atomic_write
from twinnet.core.schema import Activation, Engine
from twinnet.engines.scratch.activations import activate
from twinnet.engines.scratch.arrays import samples_first, samples_last, to_engine_layout
from twinnet.engines.scratch.step import expand_layers, expand_weights, forward
from twinnet.engines.scratch.trainer import EVALUATION_BATCH, flatten_inputs

CONVOLVED_AT_ONCE = 64  # images: the patches of more do not fit the cache; products so small are for one thread
KINDS: dict[str, type] = {kind.__name__: kind for kind in networks.Layer.__args__}


@dataclass(frozen=True)
class ScratchNetwork:
    """A network with its weights; see `core.problem.TrainedNetwork`."""

    network: Network
    trained: Weights

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Activations of the output layer, (samples, units), from X (samples, *input shape).

        Raises DataError for another shape or a number that is not finite.
        """
        X = np.asarray(X, dtype=next(value.dtype for layer in self.trained for value in layer.values()))
        if X.shape[1:] != self.network.input_shape:
            expected = " x ".join(map(str, ("samples", *self.network.input_shape)))
            raise DataError(f"X: expected {expected}; received an array of shape {X.shape}")
        if not np.isfinite(X).all():
            raise DataError("X: expected finite numbers; received NaN or infinity; remove or fill in these samples")
        X = flatten_inputs(self.network, X)
        last = self.network.layers[-1]
        assert isinstance(last, Dense)
        layers = expand_layers(self.network.layers)
        weights = expand_weights(self.network.layers, to_engine_layout(self.trained))
        outputs = [np.empty((0, last.units), X.dtype)]
        convolutional = any(isinstance(layer, networks.Conv2D) for layer in self.network.layers)
        size = CONVOLVED_AT_ONCE if convolutional else EVALUATION_BATCH
        with np.errstate(over="ignore", under="ignore"), threadpool_limits(1) if convolutional else nullcontext():
            for start in range(0, len(X), size):
                Z, _ = forward(layers, weights, samples_last(X[start : start + size]), np)
                outputs.append(samples_first(activate(last.activation, Z, np)))
        return np.concatenate(outputs)

    def weights(self) -> Weights:
        return [{name: value.copy() for name, value in layer.items()} for layer in self.trained]

    def save(self, directory: Path) -> Path:
        """Write model.npz: `network`, its description as JSON, and `0/W`, `0/b`, … the weights of each layer."""
        path = Path(directory) / "model.npz"
        arrays: dict[str, Any] = {
            f"{i}/{name}": value for i, layer in enumerate(self.trained) for name, value in layer.items()
        }
        with atomic_write(path) as file:
            np.savez(file, network=np.array(_describe(self.network)), **arrays)
        return path


def load(path: Path, engine: Engine | None = None) -> ScratchNetwork:
    """Read the network that `ScratchNetwork.save` wrote; nothing is unpickled. A damaged file raises any error."""
    with np.load(path, allow_pickle=False) as file:
        network = _network(json.loads(str(file["network"])))
        weights = [
            {name: _weight(file, f"{i}/{name}", shape) for name, shape in layer.weight_shapes(inputs).items()}
            for i, (layer, inputs) in enumerate(zip(network.layers, network.shapes(), strict=False))
        ]
    return ScratchNetwork(network, weights)


def _weight(file: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    value = file[name]
    if value.shape != shape:
        raise ValueError(f"{name}: expected the shape {shape}; received {value.shape}")
    return value


def _describe(network: Network) -> str:
    layers = [
        {"kind": type(layer).__name__}
        | {key: value.value if isinstance(value, Activation) else value for key, value in asdict(layer).items()}
        for layer in network.layers
    ]
    return json.dumps({"input_shape": network.input_shape, "layers": layers, "l2": network.l2})


def _network(described: dict) -> Network:
    return Network(
        tuple(described["input_shape"]), tuple(_layer(**layer) for layer in described["layers"]), described["l2"]
    )


def _layer(kind: str, **values: object) -> Layer:
    if "activation" in values:
        values["activation"] = Activation(str(values["activation"]))
    return KINDS[kind](**values)
