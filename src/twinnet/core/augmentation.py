"""Random changes of the training samples, drawn from (seed, epoch) alone: both engines make the same ones.

`sample` gives, for each position in the epoch's order, the changes that are asked for:

    flip    (samples,)    1 if the image is mirrored, left and right exchanged
    shift   (samples, 2)  pixels down and to the right, zeros coming in: a random crop of the padded image
    erase   (samples, 5)  a box (top, left, height, width) and the value it is filled with (Zhong et al. 2020)
    mix     (samples, 5)  the sample's own share, and the box that is replaced by the next sample's
                          (CutMix, Yun et al. 2019); a box without height if the two are averaged instead
                          (mixup, Zhang et al. 2018)
"""

from typing import Any

import numpy as np

from twinnet.core.metrics import Predict
from twinnet.core.problem import Problem
from twinnet.core.schema import Augmentation

Sample = dict[str, Any]  # name of a change -> its values
AUGMENTATION_STREAM, DROPOUT_STREAM = 1, 2  # beside the stream that draws the order of the samples
ERASED_AREA = 0.02, 0.4  # of the image, as Zhong et al. chose
ERASED_ASPECT = 0.3, 1 / 0.3  # height over width


def is_enabled(problem: Problem) -> bool:
    chosen = problem.augmentation
    return chosen.flip or any((chosen.shift, chosen.erase, chosen.mixup, chosen.cutmix))


def is_unchanging(problem: Problem) -> bool:
    """Return whether each step sees the same batch: all samples as they are."""
    return problem.full_batch and not is_enabled(problem)


def mixes_labels(problem: Problem) -> bool:
    """Whether targets are mixed with their images."""
    return bool(problem.augmentation.mixup or problem.augmentation.cutmix)


def sample(problem: Problem, epoch: int) -> Sample:
    """The changes of this epoch, in the type of the samples; nothing for those that are not asked for."""
    if not is_enabled(problem):  # a generator takes 12 us, four epochs of 2-4-1
        return {}
    chosen, samples = problem.augmentation, len(problem.X_train)
    random = np.random.default_rng([problem.seed, epoch, AUGMENTATION_STREAM])
    drawn: dict[str, np.ndarray] = {}
    if chosen.flip:
        drawn["flip"] = random.integers(0, 2, samples)
    if chosen.shift:
        drawn["shift"] = random.integers(-chosen.shift, chosen.shift, (samples, 2), endpoint=True)
    if chosen.erase:
        drawn["erase"] = _erasures(problem, random)
    if mixes_labels(problem):
        drawn["mix"] = _mixtures(problem, random)
    return {name: values.astype(problem.X_train.dtype) for name, values in drawn.items()}


def take(drawn: Sample, chosen: Any) -> Sample:
    """The changes at some positions of the order."""
    return {name: values[chosen] for name, values in drawn.items()}


def augment(images: Any, targets: Any, drawn: Sample, shift: int, xp: Any) -> tuple[Any, Any]:
    """Images (samples, height, width, channels) and targets of a batch, changed as drawn for them.

    Images move by at most `shift` pixels. Where the batch mixes, targets are (samples, classes). `xp` is numpy,
    jax.numpy or keras.ops.
    """
    if "flip" in drawn:
        images = xp.where(_columns(drawn["flip"], xp) == 1, xp.flip(images, axis=2), images)
    if "shift" in drawn:
        images = _shifted(_shifted(images, drawn["shift"][:, 0], 1, shift, xp), drawn["shift"][:, 1], 2, shift, xp)
    if "erase" in drawn:
        erase = drawn["erase"]
        images = xp.where(_inside(images, erase[:, :4], xp), _columns(erase[:, 4], xp), images)
    if "mix" in drawn:
        images, targets = _mixed(images, targets, drawn["mix"], xp)
    return images, targets


def average_views(predict: Predict, chosen: Augmentation) -> Predict:
    """The prediction that is evaluated: the mean over the views of an image that the experiment asks for, if any."""
    if chosen.shift_at_test:
        predict = _average_shifts(predict, chosen.shift_at_test)
    if chosen.flip_at_test:
        return lambda X: (predict(X) + predict(X[:, :, ::-1])) / 2
    return predict


def views(chosen: Augmentation) -> str:
    """What `average_views` averages, for people; empty if nothing."""
    mirrored = ["its mirror image"] if chosen.flip_at_test else []
    moved = [f"copies moved by {chosen.shift_at_test} px"] if chosen.shift_at_test else []
    return " and ".join(mirrored + moved)


def _average_shifts(predict: Predict, pixels: int) -> Predict:
    def average(X: np.ndarray) -> np.ndarray:
        moved = (
            predict(_shifted(X, np.full(len(X), distance), axis, pixels, np))
            for axis in (1, 2)
            for distance in (-pixels, pixels)
        )
        return predict(X) / 2 + sum(moved) / 8

    return average


def _erasures(problem: Problem, random: np.random.Generator) -> np.ndarray:
    """A box for a fraction `erase` of the samples, filled with one grey between the darkest and the brightest."""
    samples, (height, width) = len(problem.X_train), problem.network.input_shape[:2]
    area = random.uniform(*ERASED_AREA, samples) * height * width
    low, high = np.log(ERASED_ASPECT)
    aspect = np.exp(random.uniform(low, high, samples))
    fill = random.uniform(problem.X_train.min(), problem.X_train.max(), samples)
    hit = random.random(samples) < problem.augmentation.erase
    tall = np.minimum(np.round(np.sqrt(area * aspect)), height) * hit
    wide = np.minimum(np.round(np.sqrt(area / aspect)), width) * hit
    top, left = (
        np.floor(random.random(samples) * (whole - part + 1)) for whole, part in ((height, tall), (width, wide))
    )
    return np.column_stack([top, left, tall, wide, fill])


def _mixtures(problem: Problem, random: np.random.Generator) -> np.ndarray:
    """Mixup, CutMix, or, if both are enabled, one of them for each sample."""
    chosen, samples = problem.augmentation, len(problem.X_train)
    height, width = problem.network.input_shape[:2]
    cut = random.random(samples) < (0.5 if chosen.mixup and chosen.cutmix else float(bool(chosen.cutmix)))
    share = np.where(
        cut,
        random.beta(chosen.cutmix or 1, chosen.cutmix or 1, samples),
        random.beta(chosen.mixup or 1, chosen.mixup or 1, samples),
    )
    tall, wide = (np.round(np.sqrt(1 - share) * length) * cut for length in (height, width))
    top, left = (
        np.floor(random.random(samples) * (whole - part + 1)) for whole, part in ((height, tall), (width, wide))
    )
    share = np.where(cut, 1 - tall * wide / (height * width), share)
    return np.column_stack([share, top, left, tall, wide])


def _mixed(images: Any, targets: Any, mix: Any, xp: Any) -> tuple[Any, Any]:
    share, boxes = mix[:, 0], mix[:, 1:]
    others, other_targets = xp.roll(images, -1, axis=0), xp.roll(targets, -1, axis=0)
    averaged = _columns(share, xp) * images + (1 - _columns(share, xp)) * others
    pasted = xp.where(_inside(images, boxes, xp), others, images)
    images = xp.where(_columns(boxes[:, 2] > 0, xp), pasted, averaged)
    return images, share[:, None] * targets + (1 - share[:, None]) * other_targets


def _shifted(images: Any, shifts: Any, axis: int, most: int, xp: Any) -> Any:
    """The images moved along an axis by `shifts` (samples,), zeros coming in: one selection for each distance."""
    length, padding = images.shape[axis], [(0, 0)] * 4
    padding[axis] = (most, most)
    padded, shifted = xp.pad(images, padding), images
    for distance in (*range(-most, 0), *range(1, most + 1)):
        window = [slice(None)] * 4
        window[axis] = slice(most - distance, most - distance + length)
        shifted = xp.where(_columns(shifts, xp) == distance, padded[tuple(window)], shifted)
    return shifted


def _inside(images: Any, boxes: Any, xp: Any) -> Any:
    """True at the pixels within each sample's box (top, left, height, width); (samples, height, width, 1)."""
    height, width = images.shape[1:3]
    y, x = xp.arange(height, dtype=images.dtype)[None], xp.arange(width, dtype=images.dtype)[None]
    tall = xp.logical_and(y >= boxes[:, :1], y < boxes[:, :1] + boxes[:, 2:3])
    wide = xp.logical_and(x >= boxes[:, 1:2], x < boxes[:, 1:2] + boxes[:, 3:])
    return xp.logical_and(tall[:, :, None], wide[:, None])[..., None]


def _columns(values: Any, xp: Any) -> Any:
    """(samples,) as (samples, 1, 1, 1)."""
    return xp.reshape(values, (-1, 1, 1, 1))
