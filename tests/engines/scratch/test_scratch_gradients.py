"""Every layer, activation and loss against central differences, and whole networks against jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinnet.core.network import (
    Activate,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Fork,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    Network,
)
from twinnet.core.schema import Activation, GradientDescent, Initializer, Loss, Task
from twinnet.engines.scratch import activations, losses
from twinnet.engines.scratch.arrays import to_engine_layout
from twinnet.engines.scratch.layers import LAYER_FUNCTIONS, Context
from twinnet.engines.scratch.step import StepSpec, backward, build_step_spec, expand_weights, forward, inputs, penalty

FEW = settings(max_examples=12, deadline=None)
STEP = 1e-6


def numerical(function, at: np.ndarray) -> np.ndarray:
    """Central differences of a scalar function of an array."""
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        shift = np.zeros_like(at)
        shift[place] = STEP
        gradient[place] = (function(at + shift) - function(at - shift)) / (2 * STEP)
    return gradient


def apart(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers so far from 0 and from each other that a maximum or a kink stays where it is under a small shift."""
    count = int(np.prod(shape))
    return (random.permutation(count) - count / 2 + 0.25).reshape(shape) / count * 3


def check_layer(layer: Layer, input_shape: tuple[int, ...], samples: int, seed: int, context: Context) -> None:
    """The layer's way back against central differences of sum(R output), with fixed random R."""
    random = np.random.default_rng(seed)
    weights = {
        name: random.normal(0, 1, shape) ** (2 if name == "var" else 1)
        for name, shape in layer.weight_shapes(input_shape).items()
    }
    [weights] = to_engine_layout([weights])
    axes = (*input_shape[-1:], *input_shape[:-1], samples)
    A = apart(random, axes)
    pair = LAYER_FUNCTIONS[type(layer)]
    output, kept = pair.forward(layer, weights, A, context, np)
    R = random.normal(0, 1, output.shape)
    dA, gradients = pair.backward(layer, weights, kept, R, np)

    def total(weights, A):
        return (R * pair.forward(layer, weights, A, context, np)[0]).sum()

    np.testing.assert_allclose(dA, numerical(lambda A: total(weights, A), A), atol=1e-6)
    for name, gradient in gradients.items():
        expected = numerical(lambda value, name=name: total(weights | {name: value}, A), weights[name])
        np.testing.assert_allclose(gradient * samples, expected, atol=1e-6)
    assert set(gradients) == set(weights) - {"mean", "var"}


@FEW
@given(inputs=st.integers(1, 5), units=st.integers(1, 5), samples=st.integers(1, 6), seed=st.integers(0, 99))
def test_dense(inputs: int, units: int, samples: int, seed: int) -> None:
    check_layer(Dense(units, Activation.identity), (inputs,), samples, seed, Context(True))


@FEW
@given(
    size=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    height=st.integers(3, 6),
    width=st.integers(3, 6),
    channels=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_convolution(size: int, stride: int, height: int, width: int, channels: int, seed: int) -> None:
    check_layer(Conv2D(2, size, stride, Activation.identity), (height, width, channels), 2, seed, Context(True))


@FEW
@given(height=st.integers(2, 6), width=st.integers(2, 6), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_pooling_with_rows_and_columns_left_out(height: int, width: int, channels: int, seed: int) -> None:
    check_layer(MaxPool2D(), (height, width, channels), 2, seed, Context(True))


@FEW
@given(image=st.booleans(), training=st.booleans(), samples=st.integers(2, 5), seed=st.integers(0, 99))
def test_batch_norm(image: bool, training: bool, samples: int, seed: int) -> None:
    shape = (2, 3, 2) if image else (3,)
    if training:
        check_layer(BatchNorm(), shape, samples, seed, Context(True))
    else:  # only trained in training: here the output must be the running averages' own
        layer = BatchNorm()
        weights = to_engine_layout([{name: np.full(shape[-1], 4.0) for name in ("gamma", "beta", "mean", "var")}])[0]
        output, _ = LAYER_FUNCTIONS[BatchNorm].forward(
            layer, weights, np.full((shape[-1], samples), 6.0), Context(), np
        )
        np.testing.assert_allclose(output, 4 * 2 / np.sqrt(4 + 1e-3) + 4)


@FEW
@given(height=st.integers(1, 4), width=st.integers(1, 4), channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_global_average(height: int, width: int, channels: int, seed: int) -> None:
    check_layer(GlobalAveragePool2D(), (height, width, channels), 2, seed, Context(True))


def test_flatten_and_dropout() -> None:
    check_layer(Flatten(), (2, 3, 2), 3, 0, Context(True))
    check_layer(Flatten(), (4,), 3, 0, Context(True))
    mask = np.random.default_rng(0).random((4, 3)) > 0.5
    check_layer(Dropout(0.5), (4,), 3, 0, Context(True, mask))


@pytest.mark.parametrize("activation", list(Activation))
@FEW
@given(units=st.integers(1, 5), samples=st.integers(1, 4), seed=st.integers(0, 99))
def test_activations(activation: Activation, units: int, samples: int, seed: int) -> None:
    check_layer(Activate(activation), (units,), samples, seed, Context(True))


PAIRINGS = [
    (Loss.binary_crossentropy, Activation.sigmoid, Task.binary),
    (Loss.mean_squared_error, Activation.sigmoid, Task.binary),
    (Loss.categorical_crossentropy, Activation.sigmoid, Task.binary),
    (Loss.categorical_crossentropy, Activation.softmax, Task.multiclass),
    (Loss.mean_squared_error, Activation.softmax, Task.multiclass),
    (Loss.mean_squared_error, Activation.identity, Task.regression),
]


@pytest.mark.parametrize(("loss", "activation", "task"), PAIRINGS)
@FEW
@given(classes=st.integers(2, 4), samples=st.integers(1, 5), seed=st.integers(0, 99))
def test_losses(loss: Loss, activation: Activation, task: Task, classes: int, samples: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    units = classes if task is Task.multiclass else 1
    Z = random.normal(0, 2, (units, samples))
    y = random.normal(0, 1, samples) if task is Task.regression else random.integers(0, max(units, 2), samples)
    Y = losses.target_matrix(task, units, y, Z, np)

    def of_output(Z: np.ndarray) -> float:
        return losses.mean_loss(loss, Z, activations.activate(activation, Z, np), Y, np) * samples

    A = activations.activate(activation, Z, np)
    np.testing.assert_allclose(losses.output_delta(loss, activation, A, Y, np), numerical(of_output, Z), atol=1e-7)
    general = activations.activation_backward(activation, A, losses.loss_gradient(loss, A, Y), np)
    np.testing.assert_allclose(general, numerical(of_output, Z), atol=1e-6)


@FEW
@given(smoothing=st.floats(0.01, 0.5), classes=st.integers(2, 4), samples=st.integers(1, 5), seed=st.integers(0, 99))
def test_smoothed_targets(smoothing: float, classes: int, samples: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    Z, y = random.normal(0, 2, (classes, samples)), random.integers(0, classes, samples)
    Y = losses.smooth(losses.target_matrix(Task.multiclass, classes, y, Z, np), smoothing)
    np.testing.assert_allclose(Y.sum(axis=0), 1)
    np.testing.assert_allclose(Y[y, range(samples)], 1 - smoothing + smoothing / classes)
    loss, softmax = Loss.categorical_crossentropy, Activation.softmax

    def of_output(Z: np.ndarray) -> float:
        return losses.mean_loss(loss, Z, activations.activate(softmax, Z, np), Y, np) * samples

    A = activations.activate(softmax, Z, np)
    np.testing.assert_allclose(losses.output_delta(loss, softmax, A, Y, np), numerical(of_output, Z), atol=1e-7)


NETWORKS = {
    "mlp": ((3,), (Dense(4, Activation.tanh), Dropout(0.4), Dense(3, Activation.relu))),
    "normalised": ((3,), (Dense(4, Activation.identity), BatchNorm(), Activate(Activation.sigmoid))),
    "cnn": (
        (6, 5, 2),
        (
            Conv2D(3, 3, 2, Activation.identity),
            BatchNorm(),
            Activate(Activation.tanh),
            Conv2D(2, 3, 1, Activation.sigmoid),
            MaxPool2D(),
            Flatten(),
        ),
    ),
    "residual": (  # a block whose shortcut is a convolution with a stride, around one that adds what came in
        (5, 6, 2),
        (
            Fork(),
            Conv2D(3, 3, 2, Activation.tanh),
            Fork(),
            Conv2D(3, 3, 1, Activation.identity),
            BatchNorm(),
            Add(),
            Activate(Activation.sigmoid),
            Add(2, 2),
            GlobalAveragePool2D(),
        ),
    ),
}


@pytest.mark.parametrize(
    ("name", "loss", "output", "task"),
    [("mlp", *pairing) for pairing in PAIRINGS] + [(name, *PAIRINGS[3]) for name in ("normalised", "cnn", "residual")],
)
def test_networks_against_jax_grad(name: str, loss: Loss, output: Activation, task: Task) -> None:
    shape, hidden = NETWORKS[name]
    units = 3 if task is Task.multiclass else 1
    network = Network(shape, (*hidden, Dense(units, output)), l2=0.01)
    program = build_step_spec(network, loss, task, GradientDescent(learning_rate=1.0), 1)
    random = np.random.default_rng(3)
    weights = expand_weights(
        network.layers, to_engine_layout(network.initial_weights(Initializer.glorot_uniform, 1, "float64"))
    )
    X = random.normal(0, 1, (7, *shape))
    y = random.normal(0, 1, 7) if task is Task.regression else random.integers(0, max(units, 2), 7)
    masks = {i: random.random((4, 7)) > 0.4 for i, layer in enumerate(program.layers) if isinstance(layer, Dropout)}
    mine, theirs = gradients(program, weights, X, y, masks)
    for own, oracle in zip(mine, theirs, strict=True):
        for key, gradient in own.items():
            np.testing.assert_allclose(gradient, oracle[key], rtol=1e-9, atol=1e-11)


def gradients(program: StepSpec, weights: list, X: np.ndarray, y: np.ndarray, masks: dict) -> tuple[list, list]:
    """By back propagation in NumPy, and by automatic differentiation of the same forward pass."""
    A, Y = inputs(program, X, y, np)
    Z, kept = forward(program.layers, weights, A, np, True, masks)
    output = activations.activate(program.output, Z, np)
    mine = backward(program, weights, kept, losses.output_delta(program.loss, program.output, output, Y, np), np)

    def loss(weights: list) -> jax.Array:
        Z, _ = forward(program.layers, weights, jnp.asarray(A), jnp, True, masks)
        output = activations.activate(program.output, Z, jnp)
        return losses.mean_loss(program.loss, Z, output, jnp.asarray(Y), jnp) + penalty(program, weights)

    with jax.enable_x64(True):
        return mine, jax.jit(jax.grad(loss))(jax.tree.map(jnp.asarray, weights))
