"""Activations and their derivatives, each written as a function of its own output.

Z and A are (units, ..., samples). An exp that overflows becomes inf and the sigmoid 0, which is its limit: callers
switch NumPy's warning about it off.
"""

from typing import Any

import numpy as np

from twinnet.core.schema import Activation
from twinnet.engines.scratch.arrays import Array


def activate(activation: Activation, Z: Array, xp: Any) -> Array:
    """A = g(Z), of the same shape.

    sigmoid 1 / (1 + exp(-Z)); relu max(Z, 0); tanh; softmax exp(Z) / sum over the units of exp(Z), computed from
    Z less its largest unit so that nothing overflows (Goodfellow et al. 2016, section 4.1); identity Z.
    """
    match activation:
        case Activation.sigmoid:
            return 1.0 / (1.0 + xp.exp(-Z))
        case Activation.relu:
            return xp.maximum(Z, 0)
        case Activation.tanh:
            return xp.tanh(Z)
        case Activation.softmax:
            exponentials = xp.exp(Z - Z.max(axis=0, keepdims=True))
            return exponentials / exponentials.sum(axis=0, keepdims=True)
        case Activation.identity:
            return Z


def activate_fast(activation: Activation, Z: Array, xp: Any) -> Array:
    """`activate` with an error of a few units of the last place of 1 (4e-16 in float64, 2e-7 in float32).

    That is harmless except to the logarithm of a small A. Compiled, the sigmoid is (1 + tanh(Z / 2)) / 2, the same
    function: XLA's tanh is faster than its exp and division.
    """
    if xp is not np and activation is Activation.sigmoid:
        return 0.5 + 0.5 * xp.tanh(0.5 * Z)
    return activate(activation, Z, xp)


def activation_backward(activation: Activation, A: Array, dA: Array, xp: Any) -> Array:
    """dJ/dZ from dJ/dA, of the same shape: dA g'(Z), with g' written as a function of the output A = g(Z).

    sigmoid A (1 - A); relu 1 where A > 0, else 0; tanh 1 - A^2; identity 1. The units of a softmax depend on each
    other: dJ/dZ = A (dA - sum over the units of dA A) (Bishop 2006, equation 4.106).
    """
    match activation:
        case Activation.sigmoid:
            return dA * (A * (1.0 - A))
        case Activation.relu:
            return xp.where(A > 0, dA, 0)
        case Activation.tanh:
            return dA * (1 - A * A)
        case Activation.softmax:
            return A * (dA - (dA * A).sum(axis=0, keepdims=True))
        case Activation.identity:
            return dA
