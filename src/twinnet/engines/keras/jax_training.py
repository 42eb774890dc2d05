"""Several steps in one call of Keras on JAX, which itself makes one: a GPU waits for no call.

The samples stay where the training computes; each step gathers its batch and changes it as drawn.
"""

from collections.abc import Iterator
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

from twinnet.core import augmentation
from twinnet.core.problem import Problem
from twinnet.engines.keras.batches import training_targets
from twinnet.engines.keras.training_model import TrainingModel


def calls(problem: Problem, most: int, first_epoch: int = 0) -> list[range]:
    """The steps of each call, counted from the training's first: at most `most`, all of one size of batch.

    No call goes beyond an epoch; where all steps see the same batch, none goes beyond a chunk.
    """
    if augmentation.is_unchanging(problem):
        parts = [range(max(chunk.start, first_epoch), chunk.stop) for chunk in problem.chunks()]
    else:
        steps, whole = problem.steps_per_epoch, len(problem.X_train) // problem.batch_size
        starts = range(first_epoch * steps, problem.epochs * steps, steps)
        parts = [part for at in starts for part in (range(at, at + whole), range(at + whole, at + steps))]
    return [call for part in parts for call in _pieces(part, most)]


def _pieces(steps: range, most: int) -> Iterator[range]:
    """Pieces of equal length if at least half of `most` divides the steps, as each length is compiled once more."""
    longest = min(most, len(steps))
    length = next((n for n in range(longest, longest // 2, -1) if len(steps) % n == 0), longest)
    for start in range(steps.start, steps.stop, length or 1):
        yield range(start, min(start + length, steps.stop))


class Batches(keras.utils.PyDataset):
    """For each call the samples, and for each of its steps what makes a batch of them."""

    def __init__(self, problem: Problem, planned: list[range]) -> None:
        super().__init__()
        self.problem, self.calls = problem, planned
        self.samples = jnp.asarray(problem.X_train), jnp.asarray(training_targets(problem))
        self.epoch: int | None = None

    def __len__(self) -> int:
        return len(self.calls)

    def __getitem__(self, index: int) -> dict[str, Any]:
        X, y = self.samples
        steps = self.calls[index]
        if augmentation.is_unchanging(self.problem):
            return {"X": X, "y": y, "steps": {"number": np.array(steps, np.int32)}}
        epoch, first = divmod(steps.start, self.problem.steps_per_epoch)
        if epoch != self.epoch:
            self.epoch = epoch
            drawn = augmentation.sample(self.problem, epoch)
            self.drawn = drawn | {"order": self.problem.order(epoch).astype(np.int32)}
        start = first * self.problem.batch_size
        stop = min(start + len(steps) * self.problem.batch_size, len(X))
        rows = augmentation.take(self.drawn, slice(start, stop))
        by_step = {name: values.reshape(len(steps), -1, *values.shape[1:]) for name, values in rows.items()}
        return {"X": X, "y": y, "steps": by_step}


class JaxTrainingModel(TrainingModel):
    """A TrainingModel whose `train_step` makes all the steps of a call of `Batches`."""

    def train_step(self, state: Any, data: dict[str, Any]) -> Any:
        def step(state: Any, chosen: dict[str, Any]) -> Any:
            X, y = data["X"], data["y"]
            if "order" in chosen:
                drawn = {name: values for name, values in chosen.items() if name != "order"}
                X, y = augmentation.augment(X[chosen["order"]], y[chosen["order"]], drawn, self.shift, jnp)
            logs, state = super(JaxTrainingModel, self).train_step(state, (X, y))
            return tuple(list(variables) for variables in state), logs

        steps = data["steps"]
        if len(next(iter(steps.values()))) == 1:  # without a loop, in which a CPU convolves slowly
            state, logs = step(state, {name: values[0] for name, values in steps.items()})
            return logs, state
        state, logs = jax.lax.scan(step, tuple(list(variables) for variables in state), steps)
        return {name: values[-1] for name, values in logs.items()}, state
