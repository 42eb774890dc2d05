"""Trainings that are run together: each is the one that it would have been alone."""

from dataclasses import replace

import numpy as np
import pytest

from twinnet.core.errors import ConfigError, DataError, DivergedError
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Dropout
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, Adam, EarlyStopping, Initializer, Task
from twinnet.engines import scratch
from twinnet.engines.scratch import batched


def configurations(problem: Problem, rates: list[float]) -> list[Problem]:
    return [
        replace(
            problem,
            seed=seed,
            weights=problem.network.initial_weights(Initializer.glorot_uniform, seed, "float64"),
            optimizer=replace(problem.optimizer, learning_rate=rate),
        )
        for seed, rate in enumerate(rates)
    ]


def monitors(problems: list[Problem], patience: int | None = None) -> list[Monitor]:
    return [Monitor(problem.metric, EarlyStopping(patience)) for problem in problems]


@pytest.mark.parametrize("batch_size", [30, 8])
def test_each_is_the_training_that_it_would_have_been_alone(make_problem, monkeypatch, batch_size: int) -> None:
    """Three blocks of two and one, epochs in chunks of 3 and a last of 1, dropout and batch order by seed."""
    monkeypatch.setattr(batched, "CACHED", 2 * batch_size * (2 + 6 + 6 + 1))
    hidden = (Dense(6, Activation.tanh), Dropout(0.3))
    problem = make_problem(hidden, array="jax", epochs=2500, samples=30, batch_size=batch_size)
    if batch_size < 30:
        problem = replace(problem, epochs=3, optimizer=Adam(learning_rate=0.1))
    problems = configurations(problem, [0.1, 0.01, 0.05, 0.2, 0.1])
    told = monitors(problems)
    fitted = scratch.fit_batched(problems, told)
    for one, own, monitor in zip(problems, fitted, told, strict=True):
        alone = scratch.fit(one, expected := Monitor("accuracy"))
        for mine, other in zip(own.weights(), alone.weights(), strict=True):
            for name in mine:
                np.testing.assert_allclose(mine[name], other[name], rtol=1e-8, atol=1e-10)
        thinned, whole = monitor.history.table(), expected.history.table()
        np.testing.assert_allclose(thinned.to_numpy(), whole.to_numpy(), rtol=1e-8)
        assert monitor.history.epochs == problem.epochs
        assert len(monitor.history.arrays()["train/loss"]) == len(thinned)


def test_one_that_diverges_stops_no_other(make_problem) -> None:
    problem = make_problem((Dense(4, Activation.relu),), task=Task.regression, array="jax", epochs=50)
    problems = configurations(problem, [0.01, 1e5, 0.02])
    first, second, third = scratch.fit_batched(problems, told := monitors(problems))
    assert isinstance(second, DivergedError)
    assert "no longer a finite number" in str(second)
    assert told[1].history.epochs < 50 == told[0].history.epochs == told[2].history.epochs
    assert np.isfinite(first.predict(problem.X_valid)).all()
    assert np.isfinite(third.predict(problem.X_valid)).all()


def test_each_stops_early_for_itself(make_problem) -> None:
    problem = make_problem((Dense(30, Activation.tanh),), array="jax", epochs=200, optimizer=Adam(learning_rate=0.1))
    problem = replace(problem, y_train=np.random.default_rng(0).permutation(problem.y_train))
    problems = configurations(problem, [0.1, 1e-5])
    quick, slow = scratch.fit_batched(problems, told := monitors(problems, patience=5))
    assert told[0].history.epochs < 200
    for one, own, monitor in zip(problems, (quick, slow), told, strict=True):
        alone = scratch.fit(one, expected := Monitor("accuracy", EarlyStopping(5)))
        assert monitor.history.epochs == expected.history.epochs
        np.testing.assert_allclose(own.predict(one.X_valid), alone.predict(one.X_valid), rtol=1e-6)


def test_only_what_can_be_trained_together(make_problem) -> None:
    problem = make_problem(array="jax")
    for change in ({"epochs": 30}, {"X_train": problem.X_train + 1}, {"optimizer": Adam(learning_rate=0.1)}):
        problems = [problem, replace(problem, **change)]
        with pytest.raises(ConfigError, match="configuration 1 has another"):
            scratch.fit_batched(problems, monitors(problems))
    bad = [problem, replace(problem, X_train=problem.X_train * np.nan)]
    with pytest.raises(DataError, match="finite"):
        scratch.fit_batched(bad, monitors(bad))
