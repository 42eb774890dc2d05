"""Layers, forward and back, each a pair of pure functions.

`forward(layer, weights, A, context, xp)` returns the layer's output and the cache of its backward pass.
`backward(layer, weights, cache, dA, xp)` takes the derivative of the loss by the output, one sample's own in each
column, and returns the derivative by the input and the gradients of the weights, which are means over the samples.
A is (units, samples), or any shape whose last axis is the samples; layers of images are in `convolution`.

Activations are separate layers here: `split_activations` takes them out of the dense and convolutional ones.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from twinnet.core.network import (
    Activate,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
)
from twinnet.core.schema import Activation
from twinnet.engines.scratch import activations, convolution
from twinnet.engines.scratch.arrays import Array, matmul, sum_products


class Context(NamedTuple):
    """Training, with a mask if the layer is a dropout, or prediction."""

    training: bool = False
    mask: Array = None


def split_activations(layers: tuple[Layer, ...]) -> list[tuple[Layer, ...]]:
    """Return the parts of each layer: linear part and activation of a dense or convolutional one, else itself."""
    return [
        (replace(layer, activation=Activation.identity), Activate(layer.activation))
        if isinstance(layer, Dense | Conv2D)
        else (layer,)
        for layer in layers
    ]


def dense_forward(layer: Dense, weights: dict[str, Array], A: Array, context: Context, xp: Any) -> tuple[Array, Array]:
    """Z = W A + b: (units, samples) from (inputs, samples). The chapter's forward propagation."""
    return matmul(weights["W"], A, xp) + weights["b"], A


def dense_backward(
    layer: Dense, weights: dict[str, Array], A: Array, dZ: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """dJ/dA = W^T dZ, dJ/dW = dZ A^T / samples, dJ/db = sum of dZ / samples. The chapter's back propagation."""
    return matmul(weights["W"].T, dZ, xp), dense_gradients(A, dZ, xp)


def dense_gradients(A: Array, dZ: Array, xp: Any) -> dict[str, Array]:
    """dJ/dW and dJ/db: all that is needed of the first layer, as nothing uses the derivative by a network's inputs."""
    samples = float(A.shape[-1])
    W, b = sum_products(dZ, A, xp)
    return {"W": W / samples, "b": b / samples}


def activate_forward(
    layer: Activate, weights: dict[str, Array], Z: Array, context: Context, xp: Any
) -> tuple[Array, Array]:
    """A = g(Z), of the same shape."""
    A = activations.activate_fast(layer.activation, Z, xp)
    return A, A


def activate_backward(
    layer: Activate, weights: dict[str, Array], A: Array, dA: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """dZ = dA g'(Z)."""
    return activations.activation_backward(layer.activation, A, dA, xp), {}


def flatten_forward(
    layer: Flatten, weights: dict[str, Array], A: Array, context: Context, xp: Any
) -> tuple[Array, tuple[int, ...]]:
    """(channels, height, width, samples) to (height width channels, samples), in the order that Keras flattens.

    A row that is flat already stays as it is.
    """
    if A.ndim == 2:
        return A, A.shape
    return xp.transpose(A, (1, 2, 0, 3)).reshape(prod(A.shape[:-1]), A.shape[-1]), A.shape


def flatten_backward(
    layer: Flatten, weights: dict[str, Array], shape: tuple[int, ...], dA: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """Inverse of `flatten_forward` for the derivatives."""
    if len(shape) == 2:
        return dA, {}
    channels, height, width, samples = shape
    return xp.transpose(dA.reshape(height, width, channels, samples), (2, 0, 1, 3)), {}


def dropout_forward(
    layer: Dropout, weights: dict[str, Array], A: Array, context: Context, xp: Any
) -> tuple[Array, Array]:
    """In training A mask / (1 - rate), with a mask of 0 and 1 (Srivastava et al. 2014, inverted); else A."""
    if not context.training:
        return A, None
    mask = context.mask.astype(A.dtype) / (1 - layer.rate)
    return A * mask, mask


def dropout_backward(
    layer: Dropout, weights: dict[str, Array], mask: Array, dA: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """dA mask / (1 - rate)."""
    return dA * mask, {}


def batch_norm_forward(
    layer: BatchNorm, weights: dict[str, Array], A: Array, context: Context, xp: Any
) -> tuple[Array, tuple[Array, ...]]:
    """gamma X + beta with X = (A - mean) / sqrt(var + epsilon), of each channel (Ioffe and Szegedy 2015, algorithm 1).

    In training mean and var (not corrected for bias) are those of the batch, over every axis but the first; in
    prediction the running averages.
    """
    axes = tuple(range(1, A.ndim))
    if context.training:
        mean = A.mean(axis=axes, keepdims=True)
        var = ((A - mean) ** 2).mean(axis=axes, keepdims=True)
    else:
        mean, var = _columns(weights["mean"], A), _columns(weights["var"], A)
    scale = 1 / xp.sqrt(var + layer.epsilon)
    X = (A - mean) * scale
    return _columns(weights["gamma"], A) * X + _columns(weights["beta"], A), (X, scale, mean, var)


def batch_norm_backward(
    layer: BatchNorm, weights: dict[str, Array], cache: tuple[Array, ...], dY: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """dJ/dA = gamma scale (dY - mean of dY - X mean of (dY X)), the means over the batch; and gamma, beta.

    That is the three equations of Ioffe and Szegedy 2015, section 3, put into one.
    """
    X, scale, _, _ = cache
    axes, samples = tuple(range(1, X.ndim)), X.shape[-1]
    sum_dY, sum_dYX = dY.sum(axis=axes, keepdims=True), (dY * X).sum(axis=axes, keepdims=True)
    count = prod(X.shape[1:])
    dA = _columns(weights["gamma"], X) * scale * (dY - sum_dY / count - X * (sum_dYX / count))
    return dA, {"gamma": sum_dYX.reshape(-1, 1) / samples, "beta": sum_dY.reshape(-1, 1) / samples}


def batch_norm_running(layer: BatchNorm, weights: dict[str, Array], cache: tuple[Array, ...]) -> dict[str, Array]:
    """Return the running averages after a batch: momentum old + (1 - momentum) of the batch."""
    _, _, mean, var = cache
    return {
        name: layer.momentum * weights[name] + (1 - layer.momentum) * batch.reshape(-1, 1)
        for name, batch in (("mean", mean), ("var", var))
    }


def _columns(value: Array, A: Array) -> Array:
    """Reshape a weight (channels, 1) to as many axes as A has."""
    return value.reshape(-1, *[1] * (A.ndim - 1))


class LayerFunctions(NamedTuple):
    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., tuple[Array, dict[str, Array]]]
    gradients: Callable[..., dict[str, Array]] | None = None  # of the weights alone, for the first layer


LAYER_FUNCTIONS: dict[type, LayerFunctions] = {
    Dense: LayerFunctions(dense_forward, dense_backward, dense_gradients),
    Activate: LayerFunctions(activate_forward, activate_backward),
    Flatten: LayerFunctions(flatten_forward, flatten_backward),
    Dropout: LayerFunctions(dropout_forward, dropout_backward),
    BatchNorm: LayerFunctions(batch_norm_forward, batch_norm_backward),
    Conv2D: LayerFunctions(
        convolution.convolution_forward, convolution.convolution_backward, convolution.convolution_gradients
    ),
    MaxPool2D: LayerFunctions(convolution.pooling_forward, convolution.pooling_backward),
    GlobalAveragePool2D: LayerFunctions(convolution.average_forward, convolution.average_backward),
}
