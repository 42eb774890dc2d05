"""Random changes of training images, drawn from (seed, epoch) alone, so that every backend makes the same ones."""

from typing import Any

import numpy as np
from keras import ops

from twinnet.engines.contract import Problem

STREAM = 1  # beside the stream that draws the order of the samples


def wanted(problem: Problem) -> bool:
    return problem.augmentation.flip or problem.augmentation.shift > 0


def draw(problem: Problem, epoch: int) -> np.ndarray:
    """For each position in the epoch's order: flipped (0 or 1), and the shifts down and to the right; (samples, 3)."""
    samples, shift = len(problem.X_train), problem.augmentation.shift
    random = np.random.default_rng([problem.seed, epoch, STREAM])
    flips = random.integers(0, 2, samples) if problem.augmentation.flip else np.zeros(samples, dtype=int)
    shifts = random.integers(-shift, shift, (samples, 2), endpoint=True)
    return np.column_stack([flips, shifts]).astype(np.int32)


def apply(images: Any, drawn: Any, shift: int) -> Any:
    """Images, (samples, height, width, channels), flipped left to right and moved by at most `shift` pixels."""
    height, width = images.shape[1:3]
    images = ops.where(ops.reshape(drawn[:, 0] == 1, (-1, 1, 1, 1)), ops.flip(images, axis=2), images)
    if not shift:
        return images
    padded = ops.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    rows = ops.arange(height)[None] + shift - drawn[:, 1:2]
    columns = ops.arange(width)[None] + shift - drawn[:, 2:3]
    padded = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
    return ops.take_along_axis(padded, columns[:, None, :, None], axis=2)
