"""Augmentation: against moving and mirroring one image after the other with NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from tests.problems import keras_problem, train_arrays
from twinnet.core.network import Flatten
from twinnet.core.problem import Problem
from twinnet.core.schema import Augmentation, GradientDescent, KerasEngine, Task
from twinnet.engines.keras import backend

pytestmark = pytest.mark.xdist_group("keras")  # one worker loads TensorFlow


@pytest.fixture
def problem() -> Problem:
    backend.load(KerasEngine())
    return keras_problem(
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
    from twinnet.core import augmentation

    drawn = augmentation.sample(problem, 4)
    images, targets = augmentation.augment(problem.X_train, problem.y_train, drawn, 2, np)
    changes = np.column_stack([drawn["flip"], drawn["shift"]]).astype(int)
    expected = [moved(image, *change) for image, change in zip(problem.X_train, changes, strict=True)]
    np.testing.assert_array_equal(np.asarray(images), expected)
    np.testing.assert_array_equal(targets, problem.y_train)
    assert set(drawn["flip"]) == {0, 1}
    assert set(drawn["shift"][:, 0]) == set(drawn["shift"][:, 1]) == {-2, -1, 0, 1, 2}


def boxed(height: int, width: int, box: np.ndarray) -> np.ndarray:
    """True inside the box (top, left, height, width), which must lie within the image."""
    top, left, tall, wide = box.astype(int)
    assert min(top, left) >= 0
    assert top + tall <= height
    assert left + wide <= width
    inside = np.zeros((height, width), dtype=bool)
    inside[top : top + tall, left : left + wide] = True
    return inside


def test_boxes_are_erased_as_drawn(problem: Problem) -> None:
    from twinnet.core import augmentation

    problem = replace(problem, augmentation=Augmentation(erase=0.5))
    drawn = augmentation.sample(problem, 4)
    images, _ = augmentation.augment(problem.X_train, problem.y_train, drawn, 0, np)
    hits = 0
    for before, after, values in zip(problem.X_train, np.asarray(images), drawn["erase"], strict=True):
        inside = boxed(5, 7, values[:4])
        np.testing.assert_array_equal(after[~inside], before[~inside])
        np.testing.assert_allclose(after[inside], values[4], rtol=1e-6)
        assert problem.X_train.min() <= values[4] <= problem.X_train.max()
        hits += inside.any()
    assert 10 <= hits <= 40, "about half of 50"


@pytest.mark.parametrize("chosen", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_images_and_targets_are_mixed_in_the_same_share(chosen: dict[str, float], problem: Problem) -> None:
    from twinnet.core import augmentation
    from twinnet.engines.keras.targets import targets

    problem = replace(problem, augmentation=Augmentation(**chosen))
    X, y = problem.X_train, targets(problem, problem.y_train)
    drawn = augmentation.sample(problem, 4)
    images, mixed = map(np.asarray, augmentation.augment(X, y, drawn, 0, np))
    cut = 0
    for i, (kept, *box) in enumerate(drawn["mix"]):
        other = (i + 1) % len(X)
        if box[2]:
            inside = boxed(5, 7, np.array(box))
            np.testing.assert_array_equal(images[i][inside], X[other][inside])
            np.testing.assert_array_equal(images[i][~inside], X[i][~inside])
            assert kept == pytest.approx(1 - inside.mean(), abs=1e-6)
            cut += 1
        else:
            np.testing.assert_allclose(images[i], kept * X[i] + (1 - kept) * X[other], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mixed[i], kept * y[i] + (1 - kept) * y[other], rtol=1e-5, atol=1e-6)
    assert (cut > 0) == ("cutmix" in chosen)
    assert "cutmix" not in chosen or "mixup" not in chosen or cut < 40, "each in about half of the 50"


def test_changes_come_from_seed_and_epoch_alone(problem: Problem) -> None:
    from twinnet.core import augmentation

    everything = Augmentation(flip=True, shift=2, erase=0.5, mixup=0.2, cutmix=1.0)
    problem = replace(problem, augmentation=everything)
    first, again, later = (augmentation.sample(problem, epoch) for epoch in (1, 1, 2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
        assert not np.array_equal(values, later[name])


def test_training_targets_are_smoothed_and_evaluation_is_not(problem: Problem) -> None:
    """A network that cannot move keeps its loss: train/loss is that of smoothed targets, valid/loss is not."""
    still = GradientDescent(learning_rate=1e-12)
    smooth = replace(problem, augmentation=Augmentation(), label_smoothing=0.3, epochs=1, optimizer=still)
    fitted, history = train_arrays(smooth)
    log_p = np.log(fitted.predict(problem.X_train))
    hard = -log_p[np.arange(len(log_p)), problem.y_train].mean()
    assert history["train/loss"][0] == pytest.approx(0.7 * hard - 0.3 * log_p.mean(), rel=1e-6)
    log_p = np.log(fitted.predict(problem.X_valid))
    hard = -log_p[np.arange(len(log_p)), problem.y_valid].mean()
    assert history["valid/loss"][0] == pytest.approx(hard, rel=1e-6)
