"""The steps of a call by Keras on JAX."""

from typing import Any

import jax
import keras
from jax import numpy as jnp

from twinnet.core import augmentation
from twinnet.core.problem import Problem
from twinnet.engines.keras.calls import Draws
from twinnet.engines.keras.targets import training_targets
from twinnet.engines.keras.training_model import TrainingModel


def batches(model: TrainingModel, planned: list[range]) -> keras.utils.PyDataset:
    return Batches(model.problem, planned)


class Batches(keras.utils.PyDataset):
    """For each call the samples, which stay on the device, and its steps."""

    def __init__(self, problem: Problem, planned: list[range]) -> None:
        super().__init__()
        self.planned, self.draw = planned, Draws(problem)
        self.samples = {"X": jnp.asarray(problem.X_train), "y": jnp.asarray(training_targets(problem))}

    def __len__(self) -> int:
        return len(self.planned)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples | {"steps": self.draw(self.planned[index])}


class LoopingModel(TrainingModel):
    """A TrainingModel whose `train_step` makes all the steps of a call."""

    def train_step(self, state: Any, data: dict[str, Any]) -> Any:
        def step(state: Any, chosen: dict[str, Any]) -> Any:
            X, y = data["X"], data["y"]
            if "order" in chosen:
                shift = self.problem.augmentation.shift
                X, y = augmentation.augment(X[chosen["order"]], y[chosen["order"]], chosen, shift, jnp)
            logs, state = super(LoopingModel, self).train_step(state, (X, y))
            return tuple(list(variables) for variables in state), logs

        steps = data["steps"]
        if len(next(iter(steps.values()))) == 1:  # without a loop, in which a CPU convolves slowly
            state, logs = step(state, {name: values[0] for name, values in steps.items()})
            return logs, state
        state, logs = jax.lax.scan(step, tuple(list(variables) for variables in state), steps)
        return {name: values[-1] for name, values in logs.items()}, state
