"""The optimizers of the schema as Keras has them."""

from typing import Any

import keras
import numpy as np
from keras import ops

from twinnet.core import schema
from twinnet.core.problem import Problem
from twinnet.core.schedules import factor
from twinnet.core.schema import Optimizer, Schedule, ScheduleKind


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """optimizer.learning_rate times its schedule, in the dtype of the weights.

    Constant rates take this way too: a plain number becomes a float32 variable in Keras, too coarse for float64.
    """

    def __init__(self, rate: float, schedule: Schedule, total_steps: int, dtype: str) -> None:
        self.rate, self.schedule, self.total_steps, self.dtype = rate, schedule, total_steps, dtype

    def __call__(self, step: Any) -> Any:
        if self.schedule.kind is ScheduleKind.constant and not self.schedule.warmup:
            return ops.convert_to_tensor(np.asarray(self.rate, self.dtype))
        return self.rate * factor(ops.cast(step, self.dtype), self.total_steps, self.schedule, ops)


def constant_type(dtype: str) -> type[float]:
    """How constants are given to Keras, which makes float32 of plain numbers, on their way to float64 too."""
    return np.float64 if dtype == "float64" else float


def build_optimizer(problem: Problem, model: keras.Model, dtype: str) -> keras.optimizers.Optimizer:
    """The optimizer of a problem, built for `model`, with AdamW's decay of the kernels alone."""
    total_steps = problem.epochs * problem.steps_per_epoch
    rate: Any = LearningRate(problem.optimizer.learning_rate, problem.optimizer.schedule, total_steps, dtype)
    average = {"use_ema": True, "ema_momentum": problem.ema} if problem.ema is not None else {}
    built = _build(problem.optimizer, rate, constant_type(dtype), average)
    if isinstance(problem.optimizer, schema.AdamW):
        built.exclude_from_weight_decay([v for v in model.trainable_variables if v.name != "kernel"])
    built.build(model.trainable_variables)
    return built


def _build(optimizer: Optimizer, rate: Any, exact: type[float], average: dict[str, Any]) -> keras.optimizers.Optimizer:
    match optimizer:
        case schema.AdamW(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, weight_decay=decay):
            return keras.optimizers.AdamW(rate, exact(decay), exact(beta_1), exact(beta_2), exact(epsilon), **average)
        case schema.Adam(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon):
            return keras.optimizers.Adam(rate, exact(beta_1), exact(beta_2), exact(epsilon), **average)
        case schema.RMSprop(rho=rho, epsilon=epsilon):
            return keras.optimizers.RMSprop(rate, exact(rho), epsilon=exact(epsilon), **average)
        case schema.Nesterov(momentum=momentum):
            return keras.optimizers.SGD(rate, exact(momentum), nesterov=True, **average)
        case schema.Momentum(momentum=momentum):
            return keras.optimizers.SGD(rate, exact(momentum), **average)
        case schema.GradientDescent():
            return keras.optimizers.SGD(rate, **average)
        case _:
            raise TypeError(f"no Keras optimizer for {type(optimizer).__name__}")
