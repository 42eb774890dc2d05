"""The two engines do the same: the same weights and batches give the same losses, metrics and weights.

100 steps each, the last batch of every epoch smaller than the others, validation after each epoch.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.problems import keras_problem, train_arrays, twin_problems
from twinnet.core.network import Activate, Add, BatchNorm, Conv2D, Dense, Flatten, Fork, GlobalAveragePool2D, MaxPool2D
from twinnet.core.problem import Problem
from twinnet.core.schema import (
    Activation,
    Adam,
    AdamW,
    ArrayLibrary,
    Augmentation,
    GradientDescent,
    Initializer,
    Loss,
    Momentum,
    Nesterov,
    Optimizer,
    RMSprop,
    Schedule,
    ScheduleKind,
    Task,
)

pytestmark = pytest.mark.xdist_group("keras")  # one worker loads TensorFlow
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
OPTIMIZERS = [
    GradientDescent(learning_rate=0.1),
    Momentum(learning_rate=0.02),
    Nesterov(learning_rate=0.02),
    RMSprop(learning_rate=0.005),
    Adam(learning_rate=0.01),
    AdamW(learning_rate=0.01, weight_decay=0.1),
]
LOSSES = [
    (Task.binary, Loss.binary_crossentropy),
    (Task.binary, Loss.mean_squared_error),
    (Task.multiclass, Loss.categorical_crossentropy),
    (Task.multiclass, Loss.mean_squared_error),
    (Task.regression, Loss.mean_squared_error),
]
LINEAR_CONV, LINEAR_CONV_4 = (Conv2D(filters, 3, 1, Activation.identity) for filters in (3, 4))
MODELS = {
    "mlp": ((3,), (Dense(5, Activation.tanh), Dense(4, Activation.sigmoid))),
    "relu": ((3,), (Dense(6, Activation.relu),)),
    "linear": ((3,), (Dense(4, Activation.identity),)),
    "mlp_norm": ((3,), (Dense(5, Activation.identity), BatchNorm(), Activate(Activation.relu))),
    "cnn": ((6, 5, 2), (Conv2D(3, 3, 1, Activation.relu), MaxPool2D(), Flatten(), Dense(4, Activation.tanh))),
    "cnn_stride": ((7, 6, 1), (Conv2D(3, 5, 2, Activation.sigmoid), Conv2D(2, 1, 2, Activation.tanh), Flatten())),
    "residual": (
        (6, 5, 1),
        (
            *(LINEAR_CONV, BatchNorm(), Activate(Activation.tanh)),
            *(Fork(), Conv2D(4, 3, 2, Activation.tanh), LINEAR_CONV_4, BatchNorm(), Add(3, 2)),
            *(Fork(), Activate(Activation.tanh), LINEAR_CONV_4, Add(), GlobalAveragePool2D()),
        ),
    ),
    "cnn_norm": ((6, 6, 1), (LINEAR_CONV, BatchNorm(), Activate(Activation.relu), MaxPool2D(), Flatten())),
}


def agree(problem: Problem, array: ArrayLibrary = ArrayLibrary.numpy, jit_compile: bool | None = False) -> None:
    twins = twin_problems(problem, array=array, jit_compile=jit_compile)
    (scratch, expected), (keras, history) = map(train_arrays, twins)
    tolerance = TOLERANCE[problem.engine.dtype.value]
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=0, atol=tolerance, err_msg=name)
    for ours, theirs in zip(scratch.weights(), keras.weights(), strict=True):
        assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(
        keras.predict(problem.X_valid), scratch.predict(problem.X_valid), rtol=0, atol=10 * tolerance
    )


# Each optimizer with one loss and each loss with one optimizer; every pair is exhaustive.
CROSSENTROPY, ADAM = LOSSES[2], OPTIMIZERS[4]
PAIRS = [
    *((optimizer, CROSSENTROPY) for optimizer in OPTIMIZERS),
    *((ADAM, loss) for loss in LOSSES if loss != CROSSENTROPY),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("optimizer", "loss"), PAIRS, ids=[f"{optimizer.kind}-{'-'.join(loss)}" for optimizer, loss in PAIRS]
)
def test_losses_and_optimizers(optimizer: Optimizer, loss: tuple[Task, Loss], dtype: str) -> None:
    problem = keras_problem(MODELS["mlp"][1], task=loss[0], loss=loss[1], dtype=dtype, optimizer=optimizer, epochs=25)
    agree(problem)


@pytest.mark.parametrize(
    ("model", "dtype"),
    [*((model, "float64") for model in MODELS if model != "mlp"), ("residual", "float32"), ("cnn_norm", "float32")],
)
def test_models(model: str, dtype: str) -> None:
    """With momentum: a bias before a normalisation has a gradient of rounding errors, which Adam would blow up."""
    input_shape, hidden = MODELS[model]
    problem = keras_problem(hidden, input_shape=input_shape, task=Task.multiclass, dtype=dtype, epochs=25,
                   optimizer=Momentum(learning_rate=0.005))  # fmt: skip
    agree(problem)


@pytest.mark.exhaustive  # 240 trainings by each engine, each compiled again
@pytest.mark.parametrize(("model", "loss", "optimizer"), list(product(MODELS, LOSSES, OPTIMIZERS)))
def test_every_model_loss_and_optimizer(model, loss, optimizer) -> None:
    """At a tenth of the learning rates, at which no pair jumps about its minimum and so magnifies rounding errors."""
    input_shape, hidden = MODELS[model]
    optimizer = replace(optimizer, learning_rate=optimizer.learning_rate / 10)
    problem = keras_problem(hidden, input_shape=input_shape, task=loss[0], loss=loss[1], optimizer=optimizer, epochs=25)
    agree(problem)


@pytest.mark.parametrize("kind", list(ScheduleKind), ids=lambda kind: kind.value)
def test_schedules_and_l2(kind: ScheduleKind) -> None:
    schedule = Schedule(kind, warmup=0.2, end=0.1)
    optimizer = GradientDescent(learning_rate=0.3, schedule=schedule)
    agree(keras_problem(task=Task.multiclass, optimizer=optimizer, l2=0.01, epochs=25))


RECIPES: dict[str, dict[str, Any]] = {
    "smoothed": {"label_smoothing": 0.1, "ema": 0.9},
    "moved": {"augmentation": Augmentation(flip=True, shift=2)},
    "all": {
        "label_smoothing": 0.1,
        "ema": 0.9,
        "augmentation": Augmentation(flip=True, shift=1, erase=0.5, mixup=0.4, cutmix=1.0),
    },
}


@pytest.mark.parametrize(
    ("recipe", "array"), [*((recipe, ArrayLibrary.numpy) for recipe in RECIPES), ("all", ArrayLibrary.jax)]
)
def test_recipes(recipe: str, array: ArrayLibrary) -> None:
    input_shape, hidden = MODELS["cnn_norm"]
    problem = keras_problem(hidden, input_shape=input_shape, task=Task.multiclass, epochs=25,
                   optimizer=Momentum(learning_rate=0.005), **RECIPES[recipe])  # fmt: skip
    agree(problem, array)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_dense_networks(recipe: str) -> None:
    """Whose steps Keras makes in one loop, batches and their changes included."""
    problem = keras_problem((Flatten(), Dense(5, Activation.tanh)), input_shape=(6, 6, 1), task=Task.multiclass,
                   epochs=25, optimizer=Momentum(learning_rate=0.005), **RECIPES[recipe])  # fmt: skip
    agree(problem)


def chapter_problem(epochs: int) -> Problem:
    """Return 2-4-1 with sigmoids, weights on [0, 1), full batch, rate 0.001: as nba_scratch and nba_keras train."""
    problem = keras_problem(
        (Dense(4, Activation.sigmoid),), input_shape=(2,), samples=354, batch_size=354, epochs=epochs,
        optimizer=GradientDescent(learning_rate=0.001), init=Initializer.uniform,
    )  # fmt: skip
    return replace(problem, X_train=problem.X_train * 3, X_valid=problem.X_valid * 3)


@pytest.mark.slow
def test_pair_of_the_chapter_agrees_for_all_its_epochs() -> None:
    """Both compiled, as the commands train them."""
    agree(chapter_problem(100_000), ArrayLibrary.jax, jit_compile=None)
