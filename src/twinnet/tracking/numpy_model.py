"""A network of the scratch engine as an MLflow model: this file is logged with the weights and needs NumPy alone.

MLflow runs the file when the model is loaded ("models from code"), so it imports nothing of the project.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda Z: Z,
    "sigmoid": lambda Z: np.exp(-np.logaddexp(0, -Z)),
    "relu": lambda Z: np.maximum(Z, 0),
    "tanh": np.tanh,
    "softmax": lambda Z: np.exp(Z - np.logaddexp.reduce(Z, axis=-1, keepdims=True)),
}


def convolve(A: np.ndarray, W: np.ndarray, stride: int) -> np.ndarray:
    """A (samples, height, width, channels) by W (k, k, channels, filters), zero padding that keeps the size."""
    k, sizes = W.shape[0], A.shape[1:3]
    totals = [max((-(-size // stride) - 1) * stride + k - size, 0) for size in sizes]
    padding = [(0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(A, padding), (k, k), axis=(1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows[:, ::stride, ::stride], W, optimize=True)


def largest(A: np.ndarray, size: int) -> np.ndarray:
    """The largest of each square of `size` pixels; what is left over at the edge is left out."""
    n, height, width, channels = A.shape
    rows, columns = height // size, width // size
    cut = A[:, : rows * size, : columns * size]
    return cut.reshape(n, rows, size, columns, size, channels).max(axis=(2, 4))


def forward(layer: dict[str, Any], weights: dict[str, np.ndarray], A: np.ndarray) -> np.ndarray:
    """The output of one layer for A, whose first axis is the samples."""
    kind = layer["kind"]
    if kind == "Dense":
        return ACTIVATIONS[layer["activation"]](A @ weights["W"] + weights["b"])
    if kind == "Conv2D":
        return ACTIVATIONS[layer["activation"]](convolve(A, weights["W"], layer["stride"]) + weights["b"])
    if kind == "BatchNorm":
        scale = weights["gamma"] / np.sqrt(weights["var"] + layer["epsilon"])
        return (A - weights["mean"]) * scale + weights["beta"]
    if kind == "Activate":
        return ACTIVATIONS[layer["activation"]](A)
    if kind == "MaxPool2D":
        return largest(A, layer["size"])
    if kind == "GlobalAveragePool2D":
        return A.mean(axis=(1, 2))
    if kind == "Flatten":
        return A.reshape(len(A), -1)
    if kind == "Dropout":
        return A
    raise ValueError(f"expected a layer that this file knows; received {kind!r}")


def shortcut(layer: dict[str, Any], weights: dict[str, np.ndarray], A: np.ndarray) -> np.ndarray:
    """What the end of a residual block adds: A as it is, or projected to the shape there."""
    return convolve(A, weights["W"], layer["stride"]) + weights["b"] if weights else A


class NumpyNetwork(PythonModel):
    """Predicts (samples, units) from (samples, *input shape)."""

    def load_context(self, context: Any) -> None:
        with np.load(context.artifacts["model"], allow_pickle=False) as stored:
            self.layers = json.loads(str(stored["network"]))["layers"]
            self.weights: list[dict[str, np.ndarray]] = [{} for _ in self.layers]
            for key in stored.files:
                index, _, name = key.partition("/")
                if name:
                    self.weights[int(index)][name] = stored[key]

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        A = np.asarray(model_input)
        forked: list[np.ndarray] = []  # what the open residual blocks will add
        for layer, weights in zip(self.layers, self.weights, strict=True):
            if layer["kind"] == "Fork":
                forked.append(A)
            elif layer["kind"] == "Add":
                A = A + shortcut(layer, weights, forked.pop())
            else:
                A = forward(layer, weights, A)
        return A


set_model(NumpyNetwork())
