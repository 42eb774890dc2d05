"""Problems that no engine may train: one line each, before any work."""

from dataclasses import replace

import numpy as np
import pytest

from tests.problems import assemble
from twinnet.core import engine
from twinnet.core.errors import DataError
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, Initializer, Loss, Task


@pytest.fixture
def problem() -> Problem:
    random = np.random.default_rng(0)
    network = Network((2,), (Dense(3, Activation.relu), Dense(1, Activation.sigmoid)))
    X = random.normal(0, 1, (12, 2)).astype("float32")
    y = np.arange(12) % 2
    return assemble(network, (X[:8], y[:8]), (X[8:], y[8:]), epochs=2, batch_size=4)


def holding(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.astype(float)
    changed.flat[1] = value
    return changed


CASES = [
    ("X_train", lambda X: holding(X, np.nan), "NaN or infinity in 1 of 8 samples"),
    ("X_valid", lambda X: holding(X, np.inf), "X_valid: expected finite numbers"),
    ("y_train", lambda y: y * 0, "at least two classes; received only class 0"),
    ("y_train", lambda y: y * 3, "expected the classes 0 to 1; received 3"),
    ("y_valid", lambda y: y - 1, "expected the classes 0 to 1; received -1"),
]


@pytest.mark.parametrize(("field", "change", "message"), CASES)
def test_bad_problem(problem: Problem, field: str, change, message: str) -> None:
    bad = replace(problem, **{field: change(getattr(problem, field))})
    monitor = Monitor("accuracy")
    with pytest.raises(DataError, match=message):
        engine.fit(bad, monitor)
    assert monitor.history.epochs == 0


def test_targets_of_a_regression_are_finite(problem: Problem) -> None:
    network = Network((2,), (Dense(1, Activation.identity),))
    weights = network.initial_weights(Initializer.glorot_uniform, 0, "float32")
    regression = replace(problem, network=network, weights=weights, task=Task.regression, loss=Loss.mean_squared_error)
    with pytest.raises(DataError, match="y_train: expected finite numbers"):
        engine.fit(replace(regression, y_train=holding(problem.y_train, np.nan)), Monitor("mae"))
