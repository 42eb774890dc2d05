"""The learning rate over the steps of a run, written once for both engines."""

from math import pi
from typing import Any

from twinnet.core.schema import Schedule, ScheduleKind

Array = Any


def factor(step: Array, total_steps: int, schedule: Schedule, xp: Any) -> Array:
    """Return the factor of optimizer.learning_rate at `step`, a float scalar or array counted from 0.

    With w = floor(warmup * total_steps), the factor rises as (step + 1) / (w + 1) while step < w and is 1 at step w.
    From there, with p rising linearly from 0 at step w to 1 at the last step, it is

        constant     1
        cosine       end + (1 - end) (1 + cos(pi p)) / 2     Loshchilov and Hutter 2017, equation 5
        one_cycle    1 + (end - 1) p                         Smith 2018: a triangle, together with a warm-up
        exponential  end ** p

    `xp` is numpy, jax.numpy or keras.ops; the result has the shape of `step`.
    """
    warmup = int(schedule.warmup * total_steps)
    progress = xp.clip((step - warmup) / max(total_steps - 1 - warmup, 1), 0.0, 1.0)
    if not warmup:
        return _decay(progress, schedule, xp)
    return xp.clip((step + 1.0) / (warmup + 1), 0.0, 1.0) * _decay(progress, schedule, xp)


def _decay(progress: Array, schedule: Schedule, xp: Any) -> Array:
    end = schedule.end
    match schedule.kind:
        case ScheduleKind.cosine:
            return end + (1.0 - end) * 0.5 * (1.0 + xp.cos(pi * progress))
        case ScheduleKind.one_cycle:
            return 1.0 + (end - 1.0) * progress
        case ScheduleKind.exponential:
            return xp.power(end, progress)
        case _:
            return xp.ones_like(progress)
