"""Small problems for the scratch engine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Dropout, Layer, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, ArrayLibrary, Dtype, GradientDescent, Initializer, Loss, ScratchEngine, Task
from twinnet.engines import scratch

LOSSES = {
    Task.binary: (Loss.binary_crossentropy, Activation.sigmoid),
    Task.multiclass: (Loss.categorical_crossentropy, Activation.softmax),
    Task.regression: (Loss.mean_squared_error, Activation.identity),
}


def labels(task: Task, X: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """Something that can be learned from the features' sum."""
    total = X.reshape(len(X), -1).sum(axis=1) + random.normal(0, 0.3, len(X))
    if task is Task.regression:
        return total.astype(X.dtype)
    edges = np.quantile(total, np.linspace(0, 1, classes + 1)[1:-1])
    return np.searchsorted(edges, total)


def build(
    hidden: tuple[Layer, ...] = (Dense(4, Activation.sigmoid),),
    *,
    task: Task = Task.binary,
    array: str = "numpy",
    dtype: str = "float64",
    input_shape: tuple[int, ...] = (2,),
    samples: int = 30,
    classes: int = 2,
    init: Initializer = Initializer.glorot_uniform,
    l2: float = 0.0,
    seed: int = 0,
    **changes: Any,
) -> Problem:
    """A problem with the output layer and the loss of its task; `changes` are fields of Problem."""
    random = np.random.default_rng(5)
    X = random.normal(0, 1, (samples + 11, *input_shape)).astype(dtype)
    y = labels(task, X, classes, random)
    loss, output = LOSSES[task]
    network = Network(input_shape, (*hidden, Dense(classes if task is Task.multiclass else 1, output)), l2)
    problem = Problem(
        network=network,
        weights=network.initial_weights(init, seed, dtype),
        loss=loss,
        task=task,
        optimizer=GradientDescent(learning_rate=0.1),
        engine=ScratchEngine(dtype=Dtype(dtype), array=ArrayLibrary(array)),
        X_train=X[:samples],
        y_train=y[:samples],
        X_valid=X[samples:],
        y_valid=y[samples:],
        epochs=20,
        batch_size=samples,
        seed=seed,
        device="cpu",
    )
    return replace(problem, **changes)


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    return build


def bits(array: str, seed: int = 0) -> bytes:
    """Weights and history of a training with all that is drawn at random: weights, batch order, dropout."""
    hidden = (Dense(16, Activation.relu), Dropout(0.5))
    problem = build(hidden, array=array, dtype="float32", samples=50, batch_size=8, epochs=5, seed=seed)
    monitor = Monitor(problem.metric)
    fitted = scratch.fit(problem, monitor)
    values = [value for layer in fitted.weights() for value in layer.values()]
    return b"".join(value.tobytes() for value in [*values, *monitor.history.arrays().values()])


@pytest.fixture
def repeated() -> Callable[..., bytes]:
    return bits
