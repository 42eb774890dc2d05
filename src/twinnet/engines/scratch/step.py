"""Forward propagation, back propagation, and the training step they make with a loss and an optimizer."""

from dataclasses import dataclass
from typing import Any

from twinnet.core import augmentation
from twinnet.core.network import Add, BatchNorm, Dense, Layer, Network
from twinnet.core.schema import Activation, Loss, Optimizer, Task
from twinnet.engines.scratch import losses, optimizers
from twinnet.engines.scratch.activations import activate, activate_fast
from twinnet.engines.scratch.arrays import Array, Parameters, samples_last
from twinnet.engines.scratch.convolution import shortcut_backward, shortcut_forward
from twinnet.engines.scratch.layers import (
    LAYER_FUNCTIONS,
    Context,
    batch_norm_running,
    split_activations,
)


@dataclass(frozen=True)
class StepSpec:
    """Static description of a training step; equal specs are the same program."""

    layers: tuple[Layer, ...]  # split, without the output activation
    output: Activation
    units: int
    loss: Loss
    task: Task
    optimizer: Optimizer
    l2: float = 0.0
    total_steps: int = 0
    label_smoothing: float = 0.0
    ema: float | None = None
    shift: int = 0  # of augmented images, at most

    def __hash__(self) -> int:  # the schema's optimizers are not hashable, and nobody changes them here
        return hash(repr(self))


def build_step_spec(network: Network, loss: Loss, task: Task, optimizer: Optimizer, total_steps: int) -> StepSpec:
    """Return the spec of a problem. The last layer of a network is dense."""
    last = network.layers[-1]
    assert isinstance(last, Dense)
    return StepSpec(
        expand_layers(network.layers), last.activation, last.units, loss, task, optimizer, network.l2, total_steps
    )


def expand_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return the split layers, without the output activation."""
    return tuple(part for parts in split_activations(layers) for part in parts)[:-1]


def expand_weights(layers: tuple[Layer, ...], weights: Parameters) -> Parameters:
    """Return weights of a network's layers as those of the split ones, without the output activation's."""
    return [
        layer if i == 0 else {}
        for parts, layer in zip(split_activations(layers), weights, strict=True)
        for i, _ in enumerate(parts)
    ][:-1]


def collapse_weights(layers: tuple[Layer, ...], weights: Parameters) -> Parameters:
    """Inverse of `expand_weights`."""
    gathered, position = [], 0
    for parts in split_activations(layers):
        gathered.append(weights[position])
        position += len(parts)
    return gathered


def forward(
    layers: tuple[Layer, ...],
    weights: Parameters,
    A: Array,
    xp: Any,
    training: bool = False,
    masks: dict[int, Array] | None = None,
) -> tuple[Array, list[Any]]:
    """Z of the output layer, (units, samples), from the inputs, and the cache of each layer for the backward pass.

    `layers` are split, without the output activation.
    """
    caches: list[Any] = []
    forked: list[Array] = []  # inputs of the open residual blocks
    context = Context(training)
    for i, (layer, own) in enumerate(zip(layers, weights, strict=True)):
        cache = None
        if functions := LAYER_FUNCTIONS.get(type(layer)):
            own_context = Context(training, masks[i]) if masks and i in masks else context
            A, cache = functions.forward(layer, own, A, own_context, xp)
        elif isinstance(layer, Add):
            shortcut, cache = shortcut_forward(layer, own, forked.pop(), xp)
            A = A + shortcut
        else:
            forked.append(A)
        caches.append(cache)
    return A, caches


def backward(spec: StepSpec, weights: Parameters, caches: list[Any], dZ: Array, xp: Any) -> Parameters:
    """Return the gradient of the loss by each weight, from dZ at the output layer back to the first: the chain rule.

    It ends at the first layer with weights, whose inputs nothing differentiates.
    """
    first = next(i for i, own in enumerate(weights) if own)
    gradients: Parameters = []
    shortcuts: list[Array] = []  # derivatives on their way to the forks of the open residual blocks
    for i in range(len(caches) - 1, first - 1, -1):
        layer, own, cache = spec.layers[i], weights[i], caches[i]
        gradient: dict[str, Array] = {}
        if functions := LAYER_FUNCTIONS.get(type(layer)):
            if i == first and functions.gradients:
                gradient = functions.gradients(cache, dZ, xp)
            else:
                dZ, gradient = functions.backward(layer, own, cache, dZ, xp)
        elif isinstance(layer, Add):
            shortcut, gradient = shortcut_backward(layer, own, cache, dZ, xp)
            shortcuts.append(shortcut)
        else:
            dZ = dZ + shortcuts.pop()
        if spec.l2 and "W" in gradient:
            gradient["W"] = gradient["W"] + 2 * spec.l2 * own["W"]
        gradients.append(gradient)
    return [{}] * first + gradients[::-1]


def penalty(spec: StepSpec, weights: Parameters) -> Array:
    """Return l2 times the sum of the squared weights, biases left out."""
    return spec.l2 * sum((own["W"] ** 2).sum() for own in weights if "W" in own) if spec.l2 else 0


def inputs(spec: StepSpec, X: Array, y: Array, xp: Any) -> tuple[Array, Array]:
    """Return the batch as the engine computes with it: A and Y, samples last, from X (samples, …) and y (samples,)."""
    return samples_last(X), losses.target_matrix(spec.task, spec.units, y, X, xp)


def training_inputs(spec: StepSpec, X: Array, y: Array, changes: augmentation.Sample, xp: Any) -> tuple[Array, Array]:
    """Return `inputs` of a training batch: targets smoothed, images and targets changed as drawn."""
    Y = losses.target_matrix(spec.task, spec.units, y, X, xp)
    if spec.label_smoothing:
        Y = losses.smooth(Y, spec.label_smoothing)
    X, rows = augmentation.augment(X, Y.T, changes, spec.shift, xp)
    return samples_last(X), rows.T


def evaluate(spec: StepSpec, weights: Parameters, A: Array, Y: Array, xp: Any) -> tuple[Array, Array]:
    """Return loss and metric of a batch in prediction, two scalars."""
    Z, _ = forward(spec.layers, weights, A, xp)
    return _measure(spec, weights, Z, _activate_output(spec, Z, xp), Y, xp)


def step(
    spec: StepSpec,
    weights: Parameters,
    state: optimizers.State,
    learning_rate: Array,
    A: Array,
    Y: Array,
    masks: dict[int, Array],
    xp: Any,
) -> tuple[Parameters, optimizers.State, Array, Array]:
    """Return new weights and optimizer state after a batch, and the loss and metric before the update."""
    Z, caches = forward(spec.layers, weights, A, xp, True, masks)
    output = _activate_output(spec, Z, xp)
    loss, metric = _measure(spec, weights, Z, output, Y, xp)
    gradients = backward(spec, weights, caches, losses.output_delta(spec.loss, spec.output, output, Y, xp), xp)
    updated, state = optimizers.update(
        spec.optimizer, weights, gradients, state, learning_rate, spec.total_steps, xp, spec.ema
    )
    for i, layer in enumerate(spec.layers):
        if isinstance(layer, BatchNorm):
            updated[i] |= batch_norm_running(layer, weights[i], caches[i])
    return updated, state, loss, metric


def _activate_output(spec: StepSpec, Z: Array, xp: Any) -> Array:
    if spec.loss is Loss.categorical_crossentropy:  # takes the logarithm of A, which may be small
        return activate(spec.output, Z, xp)
    return activate_fast(spec.output, Z, xp)


def _measure(spec: StepSpec, weights: Parameters, Z: Array, output: Array, Y: Array, xp: Any) -> tuple[Array, Array]:
    loss = losses.mean_loss(spec.loss, Z, output, Y, xp) + penalty(spec, weights)
    return loss, losses.metric(spec.task, output, Y, xp)
