"""Forward propagation, back propagation, and the training step they make with a loss and an optimizer."""

from dataclasses import dataclass
from typing import Any

from twinnet.core.network import Add, BatchNorm, Dense, Dropout, Fork, Layer, Network
from twinnet.core.schema import Activation, Loss, Optimizer, Task
from twinnet.engines.scratch import losses, optimizers
from twinnet.engines.scratch.activations import activate
from twinnet.engines.scratch.arrays import Array, Parameters, samples_last
from twinnet.engines.scratch.convolution import shortcut_backward, shortcut_forward
from twinnet.engines.scratch.layers import PAIRS, Mode, batch_norm_running, unfold


@dataclass(frozen=True)
class Recipe:
    """What a training step computes; equal recipes are the same program."""

    layers: tuple[Layer, ...]  # unfolded, without the output activation
    output: Activation
    units: int
    loss: Loss
    task: Task
    optimizer: Optimizer
    l2: float = 0.0
    total_steps: int = 0

    def __hash__(self) -> int:  # the schema's optimizers are not hashable, and nobody changes them here
        return hash(repr(self))

    @property
    def dropouts(self) -> list[int]:
        return [i for i, layer in enumerate(self.layers) if isinstance(layer, Dropout)]


def recipe(network: Network, loss: Loss, task: Task, optimizer: Optimizer, total_steps: int) -> Recipe:
    """The recipe of a problem. The last layer of a network is dense."""
    last = network.layers[-1]
    assert isinstance(last, Dense)
    layers = tuple(part for parts in unfold(network.layers) for part in parts)[:-1]
    return Recipe(layers, last.activation, last.units, loss, task, optimizer, network.l2, total_steps)


def spread(layers: tuple[Layer, ...], weights: Parameters) -> Parameters:
    """Weights of a network's layers as those of the unfolded ones, without the output activation's."""
    return [
        layer if i == 0 else {}
        for parts, layer in zip(unfold(layers), weights, strict=True)
        for i, _ in enumerate(parts)
    ][:-1]


def gather(layers: tuple[Layer, ...], weights: Parameters) -> Parameters:
    """The way back from `spread`."""
    gathered, position = [], 0
    for parts in unfold(layers):
        gathered.append(weights[position])
        position += len(parts)
    return gathered


def forward(
    recipe: Recipe,
    weights: Parameters,
    A: Array,
    xp: Any,
    training: bool = False,
    masks: dict[int, Array] | None = None,
) -> tuple[Array, list[Any]]:
    """Z of the output layer, (units, samples), from the inputs, and what each layer kept for its way back."""
    kept: list[Any] = []
    forked: list[Array] = []  # what the open residual blocks will add
    for i, (layer, own) in enumerate(zip(recipe.layers, weights, strict=True)):
        keeps = None
        if isinstance(layer, Fork):
            forked.append(A)
        elif isinstance(layer, Add):
            shortcut, keeps = shortcut_forward(layer, own, forked.pop(), xp)
            A = A + shortcut
        else:
            A, keeps = PAIRS[type(layer)].forward(layer, own, A, Mode(training, (masks or {}).get(i)), xp)
        kept.append(keeps)
    return A, kept


def backward(recipe: Recipe, weights: Parameters, kept: list[Any], dZ: Array, xp: Any) -> Parameters:
    """The gradient of the loss by every weight, from dZ at the output layer back to the first: the chain rule."""
    gradients: Parameters = []
    shortcuts: list[Array] = []  # derivatives on their way to the forks of the open residual blocks
    for layer, own, keeps in reversed(list(zip(recipe.layers, weights, kept, strict=True))):
        gradient: dict[str, Array] = {}
        if isinstance(layer, Add):
            shortcut, gradient = shortcut_backward(layer, own, keeps, dZ, xp)
            shortcuts.append(shortcut)
        elif isinstance(layer, Fork):
            dZ = dZ + shortcuts.pop()
        else:
            dZ, gradient = PAIRS[type(layer)].backward(layer, own, keeps, dZ, xp)
        if recipe.l2 and "W" in gradient:
            gradient["W"] = gradient["W"] + 2 * recipe.l2 * own["W"]
        gradients.append(gradient)
    return gradients[::-1]


def penalty(recipe: Recipe, weights: Parameters) -> Array:
    """l2 times the sum of the squared weights, biases left out."""
    return recipe.l2 * sum((own["W"] ** 2).sum() for own in weights if "W" in own) if recipe.l2 else 0


def inputs(recipe: Recipe, X: Array, y: Array, xp: Any) -> tuple[Array, Array]:
    """The batch as the engine computes with it: A and Y, samples last, from X (samples, …) and y (samples,)."""
    return samples_last(X, xp), losses.target(recipe.task, recipe.units, y, X, xp)


def evaluate(recipe: Recipe, weights: Parameters, A: Array, Y: Array, xp: Any) -> tuple[Array, Array]:
    """Loss and metric of a batch in prediction, two scalars."""
    Z, _ = forward(recipe, weights, A, xp)
    return _measure(recipe, weights, Z, activate(recipe.output, Z, xp), Y, xp)


def step(
    recipe: Recipe,
    weights: Parameters,
    state: optimizers.State,
    learning_rate: Array,
    A: Array,
    Y: Array,
    masks: dict[int, Array],
    xp: Any,
) -> tuple[Parameters, optimizers.State, Array, Array]:
    """One update from a batch: new weights and optimizer state, and the loss and metric before the update."""
    Z, kept = forward(recipe, weights, A, xp, True, masks)
    output = activate(recipe.output, Z, xp)
    loss, metric = _measure(recipe, weights, Z, output, Y, xp)
    gradients = backward(recipe, weights, kept, losses.error(recipe.loss, recipe.output, output, Y, xp), xp)
    updated, state = optimizers.update(
        recipe.optimizer, weights, gradients, state, learning_rate, recipe.total_steps, xp
    )
    for i, layer in enumerate(recipe.layers):
        if isinstance(layer, BatchNorm):
            updated[i] |= batch_norm_running(layer, weights[i], kept[i])
    return updated, state, loss, metric


def _measure(recipe: Recipe, weights: Parameters, Z: Array, output: Array, Y: Array, xp: Any) -> tuple[Array, Array]:
    loss = losses.value(recipe.loss, Z, output, Y, xp) + penalty(recipe, weights)
    return loss, losses.metric(recipe.task, output, Y, xp)
