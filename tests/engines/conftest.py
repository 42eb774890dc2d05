"""Small problems that either engine can solve."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twinnet.core.engine import fit
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Layer, Network
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import (
    Activation,
    Adam,
    ArrayLibrary,
    Backend,
    Dtype,
    Engine,
    Initializer,
    KerasEngine,
    Loss,
    ScratchEngine,
    Task,
)

OUTPUTS = {Task.binary: Activation.sigmoid, Task.multiclass: Activation.softmax, Task.regression: Activation.identity}
LOSSES = {
    Task.binary: Loss.binary_crossentropy,
    Task.multiclass: Loss.categorical_crossentropy,
    Task.regression: Loss.mean_squared_error,
}


def pose_problem(
    hidden: tuple[Layer, ...] = (Dense(4, Activation.tanh),),
    *,
    task: Task = Task.binary,
    dtype: str = "float64",
    input_shape: tuple[int, ...] = (3,),
    samples: int = 50,
    l2: float = 0.0,
    **changes: Any,
) -> Problem:
    """A problem of 3 classes, 2 classes or a number, to be learned from the features; `changes` are of its fields."""
    random = np.random.default_rng(7)
    X = random.normal(0, 1, (samples + 21, *input_shape)).astype(dtype)
    total = X.reshape(len(X), -1)[:, :3].sum(axis=1) + random.normal(0, 0.5, len(X))
    y = {
        Task.binary: (total > 0).astype(np.int64),
        Task.multiclass: np.searchsorted([-0.7, 0.7], total),
        Task.regression: total.astype(dtype),
    }[task]
    network = Network(input_shape, (*hidden, Dense(3 if task is Task.multiclass else 1, OUTPUTS[task])), l2)
    problem = Problem(
        network=network,
        weights=network.initial_weights(Initializer.glorot_uniform, 0, dtype),
        loss=LOSSES[task],
        task=task,
        optimizer=Adam(learning_rate=0.01),
        engine=KerasEngine(dtype=Dtype(dtype), jit_compile=False),
        X_train=X[:samples],
        y_train=y[:samples],
        X_valid=X[samples:],
        y_valid=y[samples:],
        epochs=5,
        batch_size=16,
        seed=3,
        device="cpu",
    )
    return replace(problem, **changes)


def solve(problem: Problem, monitor: Monitor | None = None) -> tuple[TrainedNetwork, dict[str, np.ndarray]]:
    monitor = monitor or Monitor(problem.metric)
    fitted = fit(problem, monitor)
    return fitted, monitor.history.arrays()


@pytest.fixture(scope="session")
def pose() -> Callable[..., Problem]:
    return pose_problem


@pytest.fixture(scope="session")
def solved() -> Callable[..., tuple[TrainedNetwork, dict[str, np.ndarray]]]:
    """`solved(problem)`: the fitted network and the arrays of its history."""
    return solve


@pytest.fixture(scope="session")
def twins() -> Callable[[Problem], tuple[Problem, Problem]]:
    """The problem for the readable reference and for Keras."""

    def both(problem: Problem, backend: Backend = Backend.tensorflow) -> tuple[Problem, Problem]:
        dtype = problem.engine.dtype
        engines: list[Engine] = [
            ScratchEngine(dtype=dtype, array=ArrayLibrary.numpy),
            KerasEngine(dtype=dtype, backend=backend, jit_compile=False),
        ]
        scratch, keras = (replace(problem, engine=engine) for engine in engines)
        return scratch, keras

    return both
