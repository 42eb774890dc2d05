"""Losses, their derivatives at the output layer, and the metric.

Z is the output layer before its activation and A = g(Z) after it, both (units, samples); the target Y has the same
shape: 0 or 1 for one unit, one-hot columns for several, numbers for regression. The derivatives are those of each
sample's own loss; the gradients of the weights take the mean over the samples.
"""

from functools import cache
from typing import Any

import numpy as np

from twinnet.core.schema import Activation, Loss, Task
from twinnet.engines.scratch.activations import activation_backward
from twinnet.engines.scratch.arrays import Array, sum_logarithms


def target_matrix(task: Task, units: int, y: Array, like: Array, xp: Any) -> Array:
    """Y (units, samples) from y (samples,), in the type of `like`: one-hot for several classes, else a row."""
    if task is Task.multiclass:
        return (xp.arange(units)[:, None] == y[None, :]).astype(like.dtype)
    return y[None, :].astype(like.dtype)


def smooth(Y: Array, smoothing: float) -> Array:
    """(1 - e) Y + e / units: targets less sure of their class (Szegedy et al. 2016, section 7)."""
    return (1 - smoothing) * Y + smoothing / len(Y)


def mean_loss(loss: Loss, Z: Array, A: Array, Y: Array, xp: Any) -> Array:
    """Return the mean loss over the samples, a scalar.

    binary_crossentropy        -log q, with q = |1 - Y - A| the probability given to the true class: A where Y is 1,
        else 1 - A. That is the chapter's -(Y log A + (1 - Y) log(1 - A)). If q has rounded to 0, or is so small that
        the difference has, it is |Z|. Compiled, q = 1 / (1 + exp(S Z)) with S = 1 - 2 Y, so that
        -log q = max(S Z, 0) + log(1 + exp(-|Z|)), and A is a sigmoid of Z, so that 1 + exp(-|Z|) = 1 / max(A, 1 - A):
        no guard is needed, and the logarithms of 32 samples are one of their product.
    categorical_crossentropy   -sum over the units of Y log(A / sum A). After a softmax this is
        log(sum exp Z) - Z of the true class, which is how it is computed there (Goodfellow et al. 2016, 6.2.2.3).
    mean_squared_error         (A - Y)^2, averaged over the units
    """
    match loss:
        case Loss.binary_crossentropy if xp is np:
            q = abs(1.0 - Y - A)
            logarithms, negligible = xp.log(q), _limits(A.dtype)[1]
            if q.flat[q.argmin()] < negligible:  # NumPy takes a quarter of the time of min for argmin
                logarithms = xp.where(q < negligible, -abs(Z), logarithms)
            return -logarithms.sum() / Z.shape[1]
        case Loss.binary_crossentropy:
            logarithms = sum_logarithms(xp.maximum(A, 1 - A), xp)
            return (xp.maximum((1 - 2 * Y) * Z, 0).sum() - logarithms) / Z.shape[1]
        case Loss.categorical_crossentropy:
            if len(Z) == 1:  # A / sum A is 1 whatever A is
                return (0 * A).sum()
            highest = Z.max(axis=0, keepdims=True)
            each = xp.log(xp.exp(Z - highest).sum(axis=0, keepdims=True)) + highest - (Y * Z).sum(axis=0, keepdims=True)
        case Loss.mean_squared_error:
            each = ((A - Y) ** 2).mean(axis=0, keepdims=True)
    return each.sum() / Z.shape[1]


def loss_gradient(loss: Loss, A: Array, Y: Array) -> Array:
    """dJ/dA of each sample, (units, samples).

    binary_crossentropy        -(Y / A - (1 - Y) / (1 - A)), which is 1 / (1 - Y - A), as Y is 0 or 1
    categorical_crossentropy   -Y / A + 1 / sum A, as the Y of a sample sum to 1
    mean_squared_error         2 (A - Y) / units
    """
    match loss:
        case Loss.binary_crossentropy:
            return 1.0 / (1.0 - Y - A)
        case Loss.categorical_crossentropy:
            return Y.sum(axis=0) / A.sum(axis=0) - Y / A
        case Loss.mean_squared_error:
            return 2 * (A - Y) / len(A)


def output_delta(loss: Loss, activation: Activation, A: Array, Y: Array, xp: Any) -> Array:
    """dJ/dZ of each sample, (units, samples): `loss_gradient` taken back through the output layer's activation.

    For the pairs sigmoid with binary_crossentropy and softmax with categorical_crossentropy the fractions cancel and
    leave A - Y (Bishop 2006, section 4.3.6). NumPy computes the first with its fractions, as the chapter does, so that
    it is the chapter's number to the last bit, and as A - Y only if q has rounded to 0 and there is no fraction.
    """
    match activation, loss:
        case Activation.sigmoid, Loss.binary_crossentropy if xp is not np:
            return A - Y
        case Activation.sigmoid, Loss.binary_crossentropy:
            dA, highest = loss_gradient(loss, A, Y), _limits(A.dtype)[0]
            dZ = activation_backward(activation, A, dA, xp)
            sizes = abs(dA)
            return dZ if sizes.flat[sizes.argmax()] <= highest else xp.where(sizes > highest, A - Y, dZ)
        case Activation.softmax, Loss.categorical_crossentropy:
            return A - Y
        case _, Loss.categorical_crossentropy if len(A) == 1:
            return 0 * A
        case _:
            return activation_backward(activation, A, loss_gradient(loss, A, Y), xp)


def metric(task: Task, A: Array, Y: Array, xp: Any) -> Array:
    """Return accuracy, a scalar: the share of samples whose class is the one predicted (A > 0.5, or the largest unit).

    For regression the mean absolute error.
    """
    match task:
        case Task.binary:
            correct = (A > 0.5) == (Y > 0.5)
        case Task.multiclass:
            correct = A.argmax(axis=0, keepdims=True) == Y.argmax(axis=0, keepdims=True)
        case Task.regression:
            return abs(A - Y).sum() / A.shape[1]
    count = A.dtype.type(np.count_nonzero(correct)) if xp is np else correct.astype(A.dtype).sum()
    return count / A.shape[1]


@cache
def _limits(dtype: np.dtype) -> tuple[float, float]:
    """Return the largest reciprocal of a normal number, and a number less than any 1 - A that is not 0."""
    return 1 / float(np.finfo(dtype).tiny), float(np.finfo(dtype).eps) / 4
