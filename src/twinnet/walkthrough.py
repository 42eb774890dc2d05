"""One training step on one sample, number by number: forward, loss, backward, update.

    python -m twinnet.walkthrough [--features 3.4 3.6 --label guard] [override ...]

Every number comes from the functions that train; `engines.scratch.step.step` calls the same ones.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd

from twinnet.core import config, paths, rules
from twinnet.core.errors import ConfigError, exit_on_error
from twinnet.core.network import Dense, build_network
from twinnet.core.schema import Experiment, TableData, Task
from twinnet.engines.scratch import losses, optimizers
from twinnet.engines.scratch.activations import activate, activation_backward
from twinnet.engines.scratch.arrays import to_engine_layout
from twinnet.engines.scratch.layers import Context, dense_backward, dense_forward
from twinnet.training.dataset import load_splits


@dataclass(frozen=True)
class LayerStep:
    """One dense layer in the step: input names, weights, activations, gradients, updated weights.

    W and dW are (units, inputs), the rest (units, 1): the engine's layout, with the one sample as its column.
    """

    number: int
    inputs: tuple[str, ...]  # names
    activation: str
    W: np.ndarray
    b: np.ndarray
    Z: np.ndarray
    A: np.ndarray
    dA: np.ndarray
    dZ: np.ndarray
    dW: np.ndarray
    db: np.ndarray
    W_after: np.ndarray
    b_after: np.ndarray

    def forward(self) -> pd.DataFrame:
        """One row a unit: its weights and bias, Z = W A + b, A = g(Z)."""
        return self._table(self._weights(self.W, self.b) | {f"Z{self.number}": self.Z, f"A{self.number}": self.A})

    def backward(self) -> pd.DataFrame:
        """One row a unit: the derivative of the loss by A, Z, each weight and the bias."""
        back = {f"dA{self.number}": self.dA, f"dZ{self.number}": self.dZ}
        return self._table(back | self._weights(self.dW, self.db, "d"))

    def update(self) -> pd.DataFrame:
        """One row a unit: its weights and bias after the update."""
        return self._table(self._weights(self.W_after, self.b_after))

    def _weights(self, W: np.ndarray, b: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
        columns = {f"{prefix}W{self.number} {name}": W[:, i] for i, name in enumerate(self.inputs)}
        return columns | {f"{prefix}b{self.number}": b}

    def _table(self, columns: dict[str, np.ndarray]) -> pd.DataFrame:
        rows = [f"unit {unit + 1}" for unit in range(len(self.b))]
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=rows)


@dataclass(frozen=True)
class Walkthrough:
    """A training step on one sample: x (features,), its label y, and the loss before and after the update."""

    experiment: Experiment
    x: np.ndarray
    y: float
    layers: tuple[LayerStep, ...]
    loss: float
    loss_after: float


@np.errstate(all="ignore")  # a saturated output is no error
def take_step(experiment: Experiment, x: np.ndarray, y: float) -> Walkthrough:
    """Return the first training step of an experiment on one sample: x (features,), scaled, and its label.

    Raises ConfigError unless the network is dense layers over a table and x has one finite number for each feature.
    """
    names = _names(experiment)
    if len(x) != len(names):
        raise ConfigError(f"features: expected {len(names)} ({', '.join(names)}); received {len(x)}")
    if not np.isfinite([*x, y]).all():
        raise ConfigError(f"features, label: expected finite numbers; received {', '.join(f'{v:g}' for v in (*x, y))}")
    network, dtype = build_network(experiment), experiment.engine.dtype.value
    dense = [layer for layer in network.layers if isinstance(layer, Dense)]
    weights = to_engine_layout(network.initial_weights(experiment.model.init, experiment.seed, dtype))
    A0 = np.asarray(x, dtype)[:, None]
    Y = losses.target_matrix(experiment.data.task, dense[-1].units, np.asarray([y]), A0, np)
    loss = rules.loss(experiment)

    Zs, As = _forward(dense, weights, A0)
    dAs, dZs, gradients = _backward(experiment, dense, weights, As, Y)
    state = optimizers.init_state(experiment.optimizer, weights)
    rate = np.asarray(experiment.optimizer.learning_rate, dtype)
    updated, _ = optimizers.update(experiment.optimizer, weights, gradients, state, rate, 1, np)
    Zs_after, As_after = _forward(dense, updated, A0)

    layers = []
    for i, layer in enumerate(dense):
        own, gradient, after = weights[i], gradients[i], updated[i]
        arrays = (own["W"], own["b"], Zs[i], As[i + 1], dAs[i], dZs[i], gradient["W"], gradient["b"])
        layers.append(LayerStep(i + 1, names, layer.activation.value, *arrays, after["W"], after["b"]))
        names = tuple(f"unit {unit + 1}" for unit in range(layer.units))
    before, after_loss = (
        float(losses.mean_loss(loss, last, output, Y, np))
        for last, output in ((Zs[-1], As[-1]), (Zs_after[-1], As_after[-1]))
    )
    return Walkthrough(experiment, A0[:, 0], y, tuple(layers), before, after_loss)


def _forward(dense: list[Dense], weights: list, A: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return Z of each layer, and A of the input and of each layer."""
    Zs, As = [], [A]
    for layer, own in zip(dense, weights, strict=True):
        Z, _ = dense_forward(layer, own, As[-1], Context(training=True), np)
        Zs.append(Z)
        As.append(activate(layer.activation, Z, np))
    return Zs, As


def _backward(
    experiment: Experiment, dense: list[Dense], weights: list, As: list[np.ndarray], Y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], list[dict[str, np.ndarray]]]:
    """Return dJ/dA, dJ/dZ and the gradients of each layer, computed from the last one to the first."""
    loss = rules.loss(experiment)
    dA = losses.loss_gradient(loss, As[-1], Y)
    dZ = losses.output_delta(loss, dense[-1].activation, As[-1], Y, np)
    dAs, dZs, gradients = [], [], []
    for i in reversed(range(len(dense))):
        if i < len(dense) - 1:
            dZ = activation_backward(dense[i].activation, As[i + 1], dA, np)
        dAs.append(dA)
        dZs.append(dZ)
        dA, gradient = dense_backward(dense[i], weights[i], As[i], dZ, np)
        gradients.append(gradient)
    return dAs[::-1], dZs[::-1], gradients[::-1]


def _names(experiment: Experiment) -> tuple[str, ...]:
    """Return the features of an experiment. Raises ConfigError unless it is dense layers over a table."""
    data, model, schedule = experiment.data, experiment.model, experiment.optimizer.schedule
    extras = {"model.dropout": model.dropout, "model.l2": model.l2, "label_smoothing": experiment.label_smoothing}
    extras["optimizer.schedule.warmup"] = schedule.warmup  # counted in steps, which depend on the number of samples
    dense = all(isinstance(layer, Dense) for layer in build_network(experiment).layers)
    if not isinstance(data, TableData) or any(extras.values()) or not dense:
        received = {"data.kind": data.kind, "model.kind": model.kind} | extras
        raise ConfigError(
            "walkthrough: expected a table and dense layers without dropout, normalisation, l2, label smoothing or "
            f"warm-up; received {' '.join(f'{key}={value}' for key, value in received.items() if value)}; "
            "use experiment=nba_scratch"
        )
    return tuple(data.features)


FORWARD = {
    "sigmoid": "1 / (1 + exp(-{Z}))",
    "relu": "max({Z}, 0)",
    "tanh": "tanh({Z})",
    "softmax": "exp({Z}) / sum of exp({Z})",
    "identity": "{Z}",
}
BACKWARD = {
    "sigmoid": "{dA} {A} (1 - {A})",
    "relu": "{dA} if {A} > 0, else 0",
    "tanh": "{dA} (1 - {A}^2)",
    "softmax": "{A} ({dA} - sum of {dA} {A})",
    "identity": "{dA}",
}


def text(step: Walkthrough) -> str:
    """Return the page: forward, loss, backward, update, each with its formula, its function and its numbers."""
    experiment, optimizer = step.experiment, step.experiment.optimizer
    units = "-".join(str(len(size)) for size in (step.x, *(layer.b for layer in step.layers)))
    sample = ", ".join(f"{name} {value:g}" for name, value in zip(step.layers[0].inputs, step.x, strict=True))
    lines = [
        f"{experiment.name}: {units}, {sum(layer.W.size + layer.b.size for layer in step.layers)} parameters, "
        f"initial weights {experiment.model.init} from seed {experiment.seed}",
        f"The sample: {sample}; its label: {_label(step)}",
    ]
    lines += ["", "1. Forward (layers.dense_forward, activations.activate)"]
    for layer in step.layers:
        lines += ["", *_block(_forward_formula(layer), layer.forward())]
    lines += ["", "2. Loss (losses.mean_loss)", "", f"   J = {rules.loss(experiment)} = {step.loss:.8f}"]
    lines += ["", "3. Backward, from the last layer to the first (losses.output_delta,"]
    lines += ["   activations.activation_backward, layers.dense_backward)"]
    for layer in reversed(step.layers):
        lines += ["", *_block(_backward_formula(layer, last=layer is step.layers[-1]), layer.backward())]
    lines += ["", f"4. Update (optimizers.{optimizer.kind}, learning rate {optimizer.learning_rate:g})"]
    for layer in step.layers:
        lines += ["", *_block(_update_formula(layer, optimizer.kind), layer.update())]
    lines += ["", f"The loss of this sample was {step.loss:.8f} and is now {step.loss_after:.8f}."]
    return "\n".join(lines)


def _forward_formula(layer: LayerStep) -> str:
    n, Z = layer.number, f"Z{layer.number}"
    return f"Z{n} = W{n} A{n - 1} + b{n},  A{n} = {layer.activation}({Z}) = {FORWARD[layer.activation].format(Z=Z)}"


def _backward_formula(layer: LayerStep, last: bool) -> str:
    n = layer.number
    dA = f"dA{n} = dJ/dA{n}" if last else f"dA{n} = W{n + 1}^T dZ{n + 1}"
    dZ = BACKWARD[layer.activation].format(A=f"A{n}", dA=f"dA{n}")
    return f"{dA},  dZ{n} = {dZ},  dW{n} = dZ{n} A{n - 1}^T,  db{n} = dZ{n}"


def _update_formula(layer: LayerStep, kind: str) -> str:
    n = layer.number
    if kind != "gradient_descent":
        return f"W{n} and b{n} after one step of {kind}"
    return f"W{n} := W{n} - rate dW{n},  b{n} := b{n} - rate db{n}"


def _block(formula: str, table: pd.DataFrame) -> list[str]:
    return [f"   {line}" for line in (formula, *table.to_string(float_format="{:.8f}".format).splitlines())]


def _label(step: Walkthrough) -> str:
    classes = step.experiment.data.classes
    return f"{step.y:g}" if classes is None else f"{int(step.y)} ({classes[int(step.y)]})"


def _sample(experiment: Experiment, features: list[float] | None, label: str | None) -> tuple[np.ndarray, float]:
    """Return the sample of the command line, or else the first training sample."""
    _names(experiment)  # before any data is read
    if features is None or label is None:
        splits = load_splits(experiment.data, root=paths.root(), dtype=experiment.engine.dtype.value, samples=1)
        return splits.X_train[0], float(splits.y_train[0])
    classes = experiment.data.classes
    if experiment.data.task is Task.regression or classes is None:
        try:
            return np.asarray(features), float(label)
        except ValueError as error:
            raise ConfigError(f"--label: expected a number; received {label!r}") from error
    if label not in classes:
        raise ConfigError(f"--label: expected one of {', '.join(classes)}; received {label!r}")
    return np.asarray(features), float(classes.index(label))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m twinnet.walkthrough", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=float, nargs="+", help="a sample, scaled; with --label")
    parser.add_argument("--label", help="its class, or its value; without both: the first training sample")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="as for python -m twinnet.train, e.g. optimizer=adam seed=1; docs/configuration.md has each key",
    )
    arguments = parser.parse_intermixed_args()
    with exit_on_error():
        if (arguments.features is None) != (arguments.label is None):
            raise ConfigError("--features, --label: expected both or neither; received one")
        experiment = config.experiment(config.compose(paths.root(), "train", arguments.overrides))
        print(text(take_step(experiment, *_sample(experiment, arguments.features, arguments.label))))


if __name__ == "__main__":
    main()
