"""Optimizers: how a gradient changes a weight. Every formula is the one of Keras 3, so that twins stay together.

A rule is a pure function of one weight array w, its gradient g and its slots (the optimizer's memory, of the same
shape, zeros at first), with the learning rate of this step and t, the number of the step counted from 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinnet.core.network import STATE
from twinnet.core.schedules import factor
from twinnet.core.schema import Adam, AdamW, GradientDescent, Momentum, Nesterov, Optimizer, RMSprop, ScheduleKind
from twinnet.engines.scratch.arrays import Array, Parameters

Slots = tuple[Array, ...]
# Steps taken, the slots of every weight, and its moving average (nothing if the problem asks for none).
State = tuple[Array, list[dict[str, Slots]], Parameters]


def gradient_descent(
    optimizer: GradientDescent, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any
) -> tuple[Array, Slots]:
    """w - rate g. The chapter's update."""
    return w - rate * g, ()


def momentum(
    optimizer: Momentum, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any
) -> tuple[Array, Slots]:
    """v = momentum v - rate g; w + v (Polyak 1964)."""
    v = optimizer.momentum * slots[0] - rate * g
    return w + v, (v,)


def nesterov(
    optimizer: Nesterov, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any
) -> tuple[Array, Slots]:
    """v = momentum v - rate g; w + momentum v - rate g (Sutskever et al. 2013, in terms of the point looked at)."""
    v = optimizer.momentum * slots[0] - rate * g
    return w + (optimizer.momentum * v - rate * g), (v,)


def rmsprop(
    optimizer: RMSprop, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any
) -> tuple[Array, Slots]:
    """v = rho v + (1 - rho) g^2; w - rate g / sqrt(v + epsilon) (Tieleman and Hinton 2012)."""
    v = optimizer.rho * slots[0] + (1 - optimizer.rho) * (g * g)
    return w - rate * g / xp.sqrt(v + optimizer.epsilon), (v,)


def adam(optimizer: Adam, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any) -> tuple[Array, Slots]:
    """m and v are running means of g and g^2; w - alpha m / (sqrt(v) + epsilon).

    alpha = rate sqrt(1 - beta_2^t) / (1 - beta_1^t) corrects both for their start at 0 (Kingma and Ba 2015, the form
    at the end of section 2).
    """
    alpha = rate * xp.sqrt(1 - optimizer.beta_2**t) / (1 - optimizer.beta_1**t)
    m = slots[0] + (g - slots[0]) * (1 - optimizer.beta_1)
    v = slots[1] + (g * g - slots[1]) * (1 - optimizer.beta_2)
    return w - m * alpha / (xp.sqrt(v) + optimizer.epsilon), (m, v)


def adamw(optimizer: AdamW, w: Array, g: Array, slots: Slots, rate: Array, t: Array, xp: Any) -> tuple[Array, Slots]:
    """w - rate weight_decay w, then Adam (Loshchilov and Hutter 2019)."""
    return adam(optimizer, w - w * optimizer.weight_decay * rate, g, slots, rate, t, xp)


@dataclass(frozen=True)
class UpdateRule:
    rule: Callable[..., tuple[Array, Slots]]
    slots: int
    undecayed: Callable[..., tuple[Array, Slots]] | None = None  # the rule of biases and normalisation, if another


UPDATE_RULES: dict[type, UpdateRule] = {
    GradientDescent: UpdateRule(gradient_descent, 0),
    Momentum: UpdateRule(momentum, 1),
    Nesterov: UpdateRule(nesterov, 1),
    RMSprop: UpdateRule(rmsprop, 1),
    Adam: UpdateRule(adam, 2),
    AdamW: UpdateRule(adamw, 2, adam),
}


def init_state(optimizer: Optimizer, weights: Parameters, ema: float | None = None) -> State:
    """Return the state before the first step, in NumPy arrays: a count of 0, and zeros for every weight.

    With `ema` the averages start as copies of the weights.
    """
    count = UPDATE_RULES[type(optimizer)].slots
    slots = [{name: (np.zeros_like(w),) * count for name, w in layer.items()} for layer in weights]
    averages = [{name: np.array(w) for name, w in layer.items() if name not in STATE} for layer in weights]
    return np.zeros((), np.int32), slots, averages if ema is not None else []


def update(
    optimizer: Optimizer,
    weights: Parameters,
    gradients: Parameters,
    state: State,
    learning_rate: Array,
    total_steps: int,
    xp: Any,
    ema: float | None = None,
) -> tuple[Parameters, State]:
    """Return every weight after one step, and the state; a weight without a gradient (a running average) stays."""
    update_rule = UPDATE_RULES[type(optimizer)]
    count, slots, averages = state
    rate, taken, t = learning_rate, count, count + 1
    has_schedule = (schedule := optimizer.schedule).kind is not ScheduleKind.constant or schedule.warmup
    if has_schedule or ema is not None or update_rule.slots:  # else nothing reads it
        taken = count.astype(rate.dtype)  # not counted in float32, which has no 2^24 + 1
        t = taken + 1
    if has_schedule:
        rate = rate * factor(taken, total_steps, schedule, xp)
    updated: Parameters = []
    new_slots: list[dict[str, Slots]] = []
    for own, own_gradients, own_slots in zip(weights, gradients, slots, strict=True):
        updated.append(dict(own))
        new_slots.append(dict(own_slots))
        for name, g in own_gradients.items():
            rule = update_rule.rule if name == "W" else update_rule.undecayed or update_rule.rule
            updated[-1][name], new_slots[-1][name] = rule(optimizer, own[name], g, own_slots[name], rate, t, xp)
    if ema is not None:
        averages = moving_average(ema, averages, updated, taken)
    return updated, (count + 1, new_slots, averages)


def moving_average(ema: float, averages: Parameters, weights: Parameters, taken: Array) -> Parameters:
    """Return ema a + (1 - ema) w for each average a; after the first step (`taken` 0) w itself, as Keras does."""
    decay = taken.dtype.type(ema) * (taken > 0)
    return [
        {name: decay * a + (1 - decay) * own[name] for name, a in layer.items()}
        for layer, own in zip(averages, weights, strict=True)
    ]


def evaluated_weights(weights: Parameters, state: State) -> Parameters:
    """Return the weights that are evaluated and saved: their averages if the state has some."""
    return [own | average for own, average in zip(weights, state[2], strict=True)] if state[2] else weights
