"""What the peers train: data drawn at random, of the shapes that the real data has, and whole trainings of it."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.problems import assemble
from twinnet.core import engine
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import (
    Activation,
    Adam,
    ArrayLibrary,
    Dtype,
    GradientDescent,
    Initializer,
    ScratchEngine,
    Task,
)
from twinnet.engines import scratch


def players(array: str, epochs: int, seed: int = 0, samples: int = 354, units: int = 4) -> Problem:
    """Assists and rebounds to guard or forward: 2-4-1, sigmoid, gradient descent on all rows, float64."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, samples + 175)
    X = np.round(random.gamma(1.5, [1.3, 2.5], (len(y), 2)) + np.where(y[:, None] == 1, [0, 1.5], [1.0, 0]), 1)
    network = Network((2,), (Dense(units, Activation.sigmoid), Dense(1, Activation.sigmoid)))
    return assemble(
        network, (X[:samples], y[:samples]), (X[samples:], y[samples:]), init=Initializer.uniform, init_seed=seed,
        optimizer=GradientDescent(learning_rate=0.001), epochs=epochs, seed=seed,
        engine=ScratchEngine(dtype=Dtype.float64, array=ArrayLibrary(array)),
    )  # fmt: skip


def pictures(steps: int, epochs: int) -> Problem:
    """The chapter's network for images: 784-256-256-256-10, sigmoid, Adam, batches of 32, float32."""
    random = np.random.default_rng(0)
    X = random.random((32 * steps, 784), dtype=np.float32)
    y = random.integers(0, 10, len(X))
    hidden = [Dense(256, Activation.sigmoid)] * 3
    network = Network((784,), (*hidden, Dense(10, Activation.softmax)))
    return assemble(
        network, (X, y), (X[:32], y[:32]), task=Task.multiclass, optimizer=Adam(learning_rate=0.001), epochs=epochs,
        batch_size=32, engine=ScratchEngine(dtype=Dtype.float32, array=ArrayLibrary.jax),
    )  # fmt: skip


def training(problem: Problem, units: int) -> Callable[[], int]:
    """Return what trains the problem, compiled by the first call, and returns `units`."""

    def train() -> int:
        engine.fit(problem, Monitor(problem.metric))
        return units

    return train


def batched_training(problems: Sequence[Problem], units: int) -> Callable[[], int]:
    """Return what trains the problems at once by the scratch engine, and returns `units`."""

    def train() -> int:
        scratch.fit_batched(problems, [Monitor(problem.metric) for problem in problems])
        return units

    return train
