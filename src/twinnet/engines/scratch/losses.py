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


def mean_loss(loss: Loss, Z: Array, A: Array, Y: Array, xp: Any) -> Array:
    """Return the mean loss over the samples, a scalar.

    binary_crossentropy        -log q, with q the probability given to the true class: A where Y is 1, else 1 - A.
        That is the chapter's -(Y log A + (1 - Y) log(1 - A)). If q has rounded to 0, or is so small that the
        difference has, it is |Z|. Compiled, it is computed from Z alone: q = 1 / (1 + exp(S Z)) with S = 1 - 2 Y, so
        that -log q = log(1 + exp(S Z)) = max(S Z, 0) + log(1 + exp(-|Z|)), which never overflows; the logarithms of 32
        samples are one of their product.
    categorical_crossentropy   -sum over the units of Y log(A / sum A). After a softmax this is
        log(sum exp Z) - Z of the true class, which is how it is computed there (Goodfellow et al. 2016, 6.2.2.3).
    mean_squared_error         (A - Y)^2, averaged over the units
    """
    match loss:
        case Loss.binary_crossentropy if xp is np:
            q = xp.where(Y > 0.5, A, 1 - A)
            lost = q < _negligible(A)
            each = xp.where(lost, abs(Z), 0) - xp.log(xp.where(lost, 1, q))
        case Loss.binary_crossentropy:
            logarithms = sum_logarithms(1 + xp.exp(-abs(Z)), xp)
            return (xp.sum(xp.maximum((1 - 2 * Y) * Z, 0)) + logarithms) / Z.shape[1]
        case Loss.categorical_crossentropy:
            if len(Z) == 1:  # A / sum A is 1 whatever A is
                return (0 * A).sum()
            highest = Z.max(axis=0, keepdims=True)
            each = xp.log(xp.exp(Z - highest).sum(axis=0, keepdims=True)) + highest - (Y * Z).sum(axis=0, keepdims=True)
        case Loss.mean_squared_error:
            each = ((A - Y) ** 2).mean(axis=0, keepdims=True)
    return xp.sum(each) / Z.shape[1]


def loss_gradient(loss: Loss, A: Array, Y: Array, xp: Any) -> Array:
    """dJ/dA of each sample, (units, samples).

    binary_crossentropy        -(Y / A - (1 - Y) / (1 - A)), which is -1 / q or 1 / q with q as in `mean_loss`
    categorical_crossentropy   -Y / A + 1 / sum A
    mean_squared_error         2 (A - Y) / units
    """
    match loss:
        case Loss.binary_crossentropy:
            return (1 - 2 * Y) / xp.where(Y > 0.5, A, 1 - A)
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
            lost = xp.where(Y > 0.5, A, 1 - A) < _tiny(A)
            # Where the fraction is lost, any A that divides will do: A - Y is taken instead.
            dA = loss_gradient(loss, xp.where(lost, 0.5, A), Y, xp)
            return xp.where(lost, A - Y, activation_backward(activation, A, dA, xp))
        case Activation.softmax, Loss.categorical_crossentropy:
            return A - Y
        case _, Loss.categorical_crossentropy if len(A) == 1:
            return 0 * A
        case _:
            return activation_backward(activation, A, loss_gradient(loss, A, Y, xp), xp)


def metric(task: Task, A: Array, Y: Array, xp: Any) -> Array:
    """Return accuracy, a scalar: the share of samples whose class is the one predicted (A > 0.5, or the largest unit).

    For regression the mean absolute error.
    """
    match task:
        case Task.binary:
            each = (A > 0.5) == (Y > 0.5)
        case Task.multiclass:
            each = A.argmax(axis=0, keepdims=True) == Y.argmax(axis=0, keepdims=True)
        case Task.regression:
            each = abs(A - Y)
    return xp.sum(each.astype(A.dtype)) / A.shape[1]


def _tiny(A: Array) -> float:
    """The smallest number whose reciprocal is finite."""
    return _limits(np.dtype(A.dtype))[0]


def _negligible(A: Array) -> float:
    """Less than any 1 - A that is not 0."""
    return _limits(np.dtype(A.dtype))[1]


@cache
def _limits(dtype: np.dtype) -> tuple[float, float]:
    return float(np.finfo(dtype).tiny), float(np.finfo(dtype).eps) / 4
