"""Several steps in one call of Keras, in a loop of the backend: no step waits for Python.

The samples stay on the device; each step gathers its batch and changes it as drawn.
"""

from collections.abc import Iterator

import numpy as np

from twinnet.core import augmentation
from twinnet.core.problem import Problem

Steps = dict[str, np.ndarray]  # for each step of a call the "order" of the samples in its batch, and their changes


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
    """Pieces of equal length if at least half of `most` divides the steps, as XLA compiles each length once more."""
    longest = min(most, len(steps))
    length = next((n for n in range(longest, longest // 2, -1) if len(steps) % n == 0), longest)
    for start in range(steps.start, steps.stop, length or 1):
        yield range(start, min(start + length, steps.stop))


class Draws:
    """Draw the Steps of a call: the order and changes of each batch, or its number if all steps see the same batch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.epoch: int | None = None

    def __call__(self, call: range) -> Steps:
        problem = self.problem
        if augmentation.is_unchanging(problem):
            return {"number": np.array(call, np.int32)}
        epoch, first = divmod(call.start, problem.steps_per_epoch)
        if epoch != self.epoch:
            self.epoch, order = epoch, problem.order(epoch).astype(np.int32)
            self.drawn = augmentation.sample(problem, epoch) | {"order": order}
        start = first * problem.batch_size
        rows = augmentation.take(self.drawn, slice(start, start + len(call) * problem.batch_size))
        return {name: values.reshape(len(call), -1, *values.shape[1:]) for name, values in rows.items()}
