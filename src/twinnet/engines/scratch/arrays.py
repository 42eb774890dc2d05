"""The array namespace `xp`, numpy or jax.numpy, that every function of this engine computes with.

Inside the engine the samples are the last axis, as in the chapter: a layer's activations A are (units, samples), an
image (channels, height, width, samples), a weight matrix W (units, inputs) and its bias b (units, 1). Sums over the
samples then run along memory, and so do the vector instructions. Outside (problems, predictions, saved models) the
samples are the first axis and W is (inputs, units); `to_engine_layout` and `from_engine_layout` convert.

Constants of the busiest formulas are floats, 1.0 for 1: NumPy converts an int in 0.15 us more.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np

from twinnet.core.network import Weights

Array = Any  # numpy.ndarray or jax.Array
FACTORS = 32  # from 1/2 to 1, whose product float32 holds: at least 2**-32
WRITTEN_OUT = 64  # numbers of a matrix up to which its product is written out

Parameters = list[dict[str, Array]]  # one dictionary a layer, as in `core.network`, in the engine's own layout


def matmul(a: Array, b: Array, xp: Any) -> Array:
    """Return the matrix product a b.

    Compiled, a product of few numbers is written out as a sum of rows: XLA then fuses it with what is done to it.
    """
    if xp is np or a.size > WRITTEN_OUT:
        return xp.dot(a, b)
    return sum(a[:, k : k + 1] * b[k : k + 1] for k in range(a.shape[1]))


def sum_products(dZ: Array, A: Array, xp: Any) -> tuple[Array, Array]:
    """Return the sums over the samples of dZ A^T, (units, inputs), and of dZ, (units, 1).

    Compiled, those of few inputs are one reduction, which passes over the samples once and keeps no array of products.
    """
    if xp is np or dZ.shape[0] * A.shape[0] > WRITTEN_OUT:
        return xp.dot(dZ, A.T), dZ.sum(axis=1, keepdims=True)
    from jax import lax  # imported already, as xp is JAX's

    terms = [*(dZ * row for row in A), dZ]
    *columns, total = lax.reduce(terms, [dZ.dtype.type(0)] * len(terms), lambda a, b: [*map(xp.add, a, b)], (1,))
    return xp.stack(columns, axis=1), total[:, None]


def sum_logarithms(A: Array, xp: Any) -> Array:
    """Return the sum of log A for A (1, samples) from 1/2 to 1, as logarithms of products: XLA's log is slow."""
    length = -(-A.shape[1] // FACTORS)
    A = xp.pad(A, ((0, 0), (0, length * FACTORS - A.shape[1])), constant_values=1)
    parts = [A[:, i * length : (i + 1) * length] for i in range(FACTORS)]
    return xp.sum(xp.log(reduce(xp.multiply, parts)))


def add_at(total: Array, place: tuple[slice, ...], part: Array, xp: Any) -> Array:
    """Return `total` with `part` added at `place`; NumPy adds in place."""
    if xp is not np:
        return total.at[place].add(part)
    total[place] += part
    return total


def samples_last(X: Array) -> Array:
    """(samples, features) to (features, samples), (samples, height, width, channels) to (channels, …, samples)."""
    return X.T if X.ndim == 2 else X.transpose(3, 1, 2, 0)


def samples_first(A: Array) -> Array:
    """Inverse of `samples_last`."""
    return A.T if A.ndim == 2 else A.transpose(3, 1, 2, 0)


def flatten_tree(tree: Any, name: str) -> dict[str, np.ndarray]:
    """Return the arrays in nested lists, tuples and dictionaries as `name/0`, `name/1`, …"""
    return {f"{name}/{i}": np.array(leaf) for i, leaf in enumerate(_leaves(tree))}


def unflatten_tree(tree: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """Inverse of `flatten_tree`: return `tree` with those arrays in place of its own."""
    places = iter(range(len(arrays)))

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: fill(part[key]) for key in sorted(part)}
        if isinstance(part, list | tuple):
            return type(part)(fill(inner) for inner in part)
        return arrays[f"{name}/{next(places)}"]

    return fill(tree)


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]  # XLA sorts them too
    return [leaf for inner in tree for leaf in _leaves(inner)] if isinstance(tree, list | tuple) else [tree]


def to_engine_layout(weights: Weights) -> Parameters:
    """Return weights of a Network in the engine's layout: vectors to columns, W transposed, kernels flattened.

    A kernel (k, k, channels, filters) becomes (filters, channels k k).
    """
    return [{name: _to_engine_layout(value) for name, value in layer.items()} for layer in weights]


def _to_engine_layout(value: np.ndarray) -> np.ndarray:
    if value.ndim == 1:
        return value[:, None].copy()
    if value.ndim == 2:
        return np.ascontiguousarray(value.T)
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)).reshape(value.shape[-1], -1)


def from_engine_layout(parameters: Parameters, shapes: list[dict[str, tuple[int, ...]]]) -> Weights:
    """Inverse of `to_engine_layout`; `shapes` are those of the Network's weights."""
    return [
        {name: _from_engine_layout(np.asarray(value), shape[name]) for name, value in layer.items()}
        for layer, shape in zip(parameters, shapes, strict=True)
    ]


def _from_engine_layout(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return value[:, 0].copy()
    if len(shape) == 2:
        return np.ascontiguousarray(value.T)
    size, _, channels, filters = shape
    return np.ascontiguousarray(value.reshape(filters, channels, size, size).transpose(2, 3, 1, 0))
