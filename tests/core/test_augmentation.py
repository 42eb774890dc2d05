"""The views of an evaluated image whose predictions are averaged."""

import numpy as np
import pytest

from twinnet.core.augmentation import average_views, views
from twinnet.core.schema import Augmentation


def predict(X: np.ndarray) -> np.ndarray:
    """Two numbers for each image that tell where its pixels are; linear, so that images can be averaged instead."""
    weights = np.random.default_rng(0).normal(size=(X[0].size, 2))
    return X.reshape(len(X), -1) @ weights


def moved(X: np.ndarray, down: int, right: int) -> np.ndarray:
    """Each image moved, zeros coming in, pixel by pixel."""
    result = np.zeros_like(X)
    height, width = X.shape[1:3]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                result[:, i, j] = X[:, i - down, j - right]
    return result


@pytest.mark.parametrize("pixels", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_half_of_the_mean_is_of_the_image_in_its_place(flip: bool, pixels: int) -> None:
    X = np.random.default_rng(1).normal(size=(3, 5, 4, 1))
    images = [X, X[:, :, ::-1]] if flip else [X]
    four = [(pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)]
    mean = np.mean([image / 2 + sum(moved(image, *by) for by in four) / 8 for image in images], axis=0)
    averaged = average_views(predict, Augmentation(flip_at_test=flip, shift_at_test=pixels))
    np.testing.assert_allclose(averaged(X), predict(mean), rtol=1e-12, atol=1e-12)


def test_views_are_said() -> None:
    assert views(Augmentation(flip=True, shift=2)) == ""
    assert views(Augmentation(flip_at_test=True)) == "its mirror image"
    assert views(Augmentation(shift_at_test=1)) == "copies moved by 1 px"
    assert views(Augmentation(flip_at_test=True, shift_at_test=2)) == "its mirror image and copies moved by 2 px"
