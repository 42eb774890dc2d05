"""Convolution, pooling and residual sums, forward and back; images are (channels, height, width, samples).

The functions have the form that `layers` describes.
"""

from typing import Any

from twinnet.core.network import Add, Conv2D, GlobalAveragePool2D, MaxPool2D
from twinnet.core.schema import Activation
from twinnet.engines.scratch.arrays import Array, add_at


def convolution_forward(
    layer: Conv2D, weights: dict[str, Array], A: Array, context: Any, xp: Any
) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    """Z = W P + b, (filters, height, width, samples): a matrix product with the patches P of A ("im2col").

    Column (row, column, sample) of P (channels k k, positions samples) holds the inputs under the kernel at that
    position. A is padded with zeros as TensorFlow's "same" does (Chellapilla et al. 2006).
    """
    size, stride = layer.kernel_size, layer.stride
    channels, *spatial, samples = A.shape
    padded = xp.pad(A, ((0, 0), *(_padding(length, size, stride) for length in spatial), (0, 0)))
    height, width = (-(-length // stride) for length in spatial)
    # Columns, then rows: both copy whole rows of memory, and the first copies a third as much.
    columns = xp.stack([padded[:, :, _steps(j, width, stride)] for j in range(size)], 1)
    patches = xp.stack([columns[:, :, _steps(i, height, stride)] for i in range(size)], 1)
    patches = patches.reshape(channels * size * size, height * width * samples)
    Z = xp.dot(weights["W"], patches) + weights["b"]
    return Z.reshape(layer.filters, height, width, samples), (patches, A.shape)


def convolution_backward(
    layer: Conv2D, weights: dict[str, Array], cache: tuple[Array, tuple[int, ...]], dZ: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """dJ/dP = W^T dZ, added up where patches overlap ("col2im"); and `convolution_gradients`."""
    gradients, (_, shape) = convolution_gradients(cache, dZ, xp), cache
    size, stride = layer.kernel_size, layer.stride
    channels, *spatial, samples = shape
    _, height, width, _ = dZ.shape
    d_patches = xp.dot(weights["W"].T, dZ.reshape(layer.filters, -1))
    d_patches = d_patches.reshape(channels, size, size, height, width, samples)
    (top, bottom), (left, right) = (_padding(length, size, stride) for length in spatial)
    total = xp.zeros((channels, spatial[0] + top + bottom, spatial[1] + left + right, samples), dZ.dtype)
    for i in range(size):
        for j in range(size):
            place = slice(None), _steps(i, height, stride), _steps(j, width, stride)
            total = add_at(total, place, d_patches[:, i, j], xp)
    return total[:, top : top + spatial[0], left : left + spatial[1]], gradients


def convolution_gradients(cache: tuple[Array, tuple[int, ...]], dZ: Array, xp: Any) -> dict[str, Array]:
    """dJ/dW = dZ P^T and dJ/db = sum of dZ, both / samples."""
    patches, shape = cache
    flat, samples = dZ.reshape(len(dZ), -1), shape[-1]
    # P dZ^T, transposed after the division: XLA takes a third less time for it than for dZ P^T.
    return {"W": (xp.dot(patches, flat.T) / samples).T, "b": xp.sum(flat, axis=1, keepdims=True) / samples}


def pooling_forward(
    layer: MaxPool2D, weights: dict[str, Array], A: Array, context: Any, xp: Any
) -> tuple[Array, tuple[Array, Array]]:
    """The largest of each square of size x size, (channels, height / size, width / size, samples)."""
    squares = _tiles(A, layer.size)
    largest = squares.max(axis=(2, 4))
    return largest, (A, largest)


def pooling_backward(
    layer: MaxPool2D, weights: dict[str, Array], cache: tuple[Array, Array], dA: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """The derivative goes to the largest input of each square, to the first of them if several are equal."""
    A, largest = cache
    size = layer.size
    squares = _tiles(A, size)
    found = xp.zeros(largest.shape, dtype=bool)
    rows = []
    for i in range(size):
        row = []
        for j in range(size):
            here = (squares[:, :, i, :, j] == largest) & ~found
            found = found | here
            row.append(xp.where(here, dA, 0))
        rows.append(xp.stack(row, 3))
    inner = xp.stack(rows, 2).reshape(A.shape[0], largest.shape[1] * size, largest.shape[2] * size, A.shape[-1])
    left_out = [(0, whole - inside) for whole, inside in zip(A.shape, inner.shape, strict=True)]
    return xp.pad(inner, left_out), {}


def average_forward(
    layer: GlobalAveragePool2D, weights: dict[str, Array], A: Array, context: Any, xp: Any
) -> tuple[Array, tuple[int, ...]]:
    """The mean over each channel, (channels, samples)."""
    return A.mean(axis=(1, 2)), A.shape


def average_backward(
    layer: GlobalAveragePool2D, weights: dict[str, Array], shape: tuple[int, ...], dA: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """Every position has an equal share of the derivative."""
    _, height, width, _ = shape
    return xp.broadcast_to(dA[:, None, None] / (height * width), shape), {}


def shortcut_forward(layer: Add, weights: dict[str, Array], forked: Array, xp: Any) -> tuple[Array, Any]:
    """The shortcut of a residual block: the forked input, projected by a 1 x 1 convolution if shapes differ."""
    if layer.channels is None:
        return forked, None
    return convolution_forward(_projection(layer, weights), weights, forked, None, xp)


def shortcut_backward(
    layer: Add, weights: dict[str, Array], cache: Any, dZ: Array, xp: Any
) -> tuple[Array, dict[str, Array]]:
    """The derivative by the forked input; that by the other summand is dZ itself."""
    if layer.channels is None:
        return dZ, {}
    return convolution_backward(_projection(layer, weights), weights, cache, dZ, xp)


def _projection(layer: Add, weights: dict[str, Array]) -> Conv2D:
    return Conv2D(len(weights["W"]), 1, layer.stride, Activation.identity)


def _padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, so that the output has ceil(length / stride) positions; the odd one comes after."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _steps(start: int, count: int, stride: int) -> slice:
    """`count` positions from `start` on: the inputs that one row or column of the kernel meets."""
    return slice(start, start + (count - 1) * stride + 1, stride)


def _tiles(A: Array, size: int) -> Array:
    """(channels, height, size, width, size, samples), without a last odd row or column."""
    channels, height, width, samples = A.shape
    whole = A[:, : height // size * size, : width // size * size]
    return whole.reshape(channels, height // size, size, width // size, size, samples)
