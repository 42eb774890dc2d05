"""Augmentation: against moving and mirroring one image after the other with NumPy."""

import numpy as np
import pytest

from twinnet.config.schema import Augmentation, KerasEngine, Task
from twinnet.engines.contract import Problem
from twinnet.engines.keras import backend
from twinnet.networks import Flatten


@pytest.fixture
def problem(pose) -> Problem:
    backend.load(KerasEngine())
    return pose(
        (Flatten(),), input_shape=(5, 7, 2), task=Task.multiclass, augmentation=Augmentation(flip=True, shift=2)
    )


def moved(image: np.ndarray, flip: int, down: int, right: int) -> np.ndarray:
    """The image mirrored where flip is 1, then moved, zeros coming in at the edges."""
    source = image[:, ::-1] if flip else image
    result = np.zeros_like(image)
    height, width, _ = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[row, column] = source[row - down, column - right]
    return result


def test_images_are_mirrored_and_moved_as_drawn(problem: Problem) -> None:
    from twinnet.engines.keras import augmentation

    drawn = augmentation.draw(problem, 4)
    images = np.asarray(augmentation.apply(problem.X_train, drawn, 2))
    expected = [moved(image, *changes) for image, changes in zip(problem.X_train, drawn, strict=True)]
    np.testing.assert_array_equal(images, expected)
    assert set(drawn[:, 0]) == {0, 1}
    assert set(drawn[:, 1]) == set(drawn[:, 2]) == {-2, -1, 0, 1, 2}


def test_changes_come_from_seed_and_epoch_alone(problem: Problem) -> None:
    from twinnet.engines.keras import augmentation

    np.testing.assert_array_equal(augmentation.draw(problem, 1), augmentation.draw(problem, 1))
    assert not np.array_equal(augmentation.draw(problem, 1), augmentation.draw(problem, 2))
