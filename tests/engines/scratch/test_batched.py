"""Trainings that run at once: each is the one that it would have been alone."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.problems import scratch_problem
from twinnet.core.errors import DataError, DivergedError
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Dropout
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, Adam, EarlyStopping, Initializer, Task
from twinnet.engines import scratch
from twinnet.engines.scratch import jit
from twinnet.engines.scratch.batched import train_stacked
from twinnet.engines.scratch.jax_trainer import JaxTrainer
from twinnet.engines.scratch.trainer import train
from twinnet.training.checkpoint import Checkpoint


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


def start_monitors(problems: list[Problem], patience: int | None = None) -> list[Monitor]:
    return [Monitor(problem.metric, EarlyStopping(patience)) for problem in problems]


def assert_trained_as_alone(problem: Problem, network: scratch.ScratchNetwork, monitor: Monitor) -> None:
    """The same bits in the weights and in the history."""
    alone = scratch.fit(problem, expected := Monitor(problem.metric, monitor.early_stopping))
    for own, other in zip(network.weights(), alone.weights(), strict=True):
        for name in other:
            np.testing.assert_array_equal(own[name], other[name])
    for name, values in expected.history.arrays().items():
        np.testing.assert_array_equal(monitor.history.arrays()[name], values)


@pytest.mark.parametrize("batch_size", [30, 8])
def test_batched_trainings_equal_single_ones(batch_size: int) -> None:
    """More trainings than cores, epochs in chunks of 3 and a last of 1, dropout and batch order by seed."""
    hidden = (Dense(6, Activation.tanh), Dropout(0.3))
    problem = scratch_problem(hidden, array="jax", epochs=2500, samples=30, batch_size=batch_size)
    if batch_size < 30:
        problem = replace(problem, epochs=3, optimizer=Adam(learning_rate=0.1))
    problems = configurations(problem, [0.1, 0.01, 0.05, 0.2, 0.1])
    monitors = start_monitors(problems)
    networks = scratch.fit_batched(problems, monitors)
    for each in zip(problems, networks, monitors, strict=True):
        assert_trained_as_alone(*each)


def test_batched_trainings_share_one_compiled_program() -> None:
    jit.compile_chunks.cache_clear()
    problem = scratch_problem((Dense(5, Activation.relu),), array="jax")
    problems = configurations(problem, [0.1, 0.2, 0.3, 0.4])
    problems[-1] = replace(problems[-1], X_train=problem.X_train + 1)  # other numbers, the same shape
    scratch.fit_batched(problems, start_monitors(problems))
    assert jit.compile_chunks.cache_info().currsize == 1
    others = [*problems, replace(problem, X_train=problem.X_train[:20], y_train=problem.y_train[:20], batch_size=20)]
    monitors = start_monitors(others)
    for each in zip(others, scratch.fit_batched(others, monitors), monitors, strict=True):
        assert_trained_as_alone(*each)
    assert jit.compile_chunks.cache_info().currsize == 2


def test_diverged_training_stops_no_other() -> None:
    problem = scratch_problem((Dense(4, Activation.relu),), task=Task.regression, array="jax", epochs=50)
    problems = configurations(problem, [0.01, 1e5, 0.02])
    first, second, third = scratch.fit_batched(problems, monitors := start_monitors(problems))
    assert isinstance(second, DivergedError)
    assert "no longer a finite number" in str(second)
    assert [monitor.history.epochs == 50 for monitor in monitors] == [True, False, True]
    assert np.isfinite(first.predict(problem.X_valid)).all()
    assert np.isfinite(third.predict(problem.X_valid)).all()


def test_each_batched_training_stops_early_for_itself() -> None:
    problem = scratch_problem((Dense(30, Activation.tanh),), array="jax", epochs=200, optimizer=Adam(learning_rate=0.1))
    problem = replace(problem, y_train=np.random.default_rng(0).permutation(problem.y_train))
    problems = configurations(problem, [0.1, 1e-5])
    networks = scratch.fit_batched(problems, monitors := start_monitors(problems, patience=5))
    assert monitors[0].history.epochs < 200
    for each in zip(problems, networks, monitors, strict=True):
        assert_trained_as_alone(*each)


def test_each_batched_training_has_its_own_checkpoint(tmp_path: Path) -> None:
    """The first of two was interrupted after its second call; both end with the bits of an uninterrupted training."""
    problem = scratch_problem(array="jax", epochs=2500)
    problems = configurations(problem, [0.1, 0.2])
    checkpoints = [Checkpoint(tmp_path / str(i), 0) for i in range(2)]

    def interrupt(history: object) -> None:
        if monitor.history.epochs > 400:
            raise KeyboardInterrupt

    monitor = Monitor("accuracy", listeners=(interrupt,), checkpoint=checkpoints[0])
    with pytest.raises(KeyboardInterrupt):
        scratch.fit(problems[0], monitor)
    assert [checkpoint.file.exists() for checkpoint in checkpoints] == [True, False]
    monitors = [Monitor("accuracy", checkpoint=checkpoint) for checkpoint in checkpoints]
    networks = scratch.fit_batched(problems, monitors)
    assert [checkpoint.file.exists() for checkpoint in checkpoints] == [True, True]
    for each in zip(problems, networks, monitors, strict=True):
        assert_trained_as_alone(*each)


def test_trainings_in_one_program_agree_with_single_ones() -> None:
    """As on a GPU, within rounding: chunks of 3 epochs and a last of 1, one that diverges, averaged weights."""
    problem = replace(scratch_problem((Dense(6, Activation.relu),), array="jax", epochs=2500), ema=0.9)
    problems = configurations(problem, [0.1, 0.01, float("inf"), 0.05])
    networks = train_stacked(problems, monitors := start_monitors(problems))
    for i in (0, 1, 3):
        alone = train(problems[i], JaxTrainer(problems[i]), expected := Monitor(problem.metric))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9), networks[i], alone)
        for name, values in expected.history.arrays().items():
            np.testing.assert_allclose(monitors[i].history.arrays()[name], values, rtol=1e-9, err_msg=name)
    assert isinstance(networks[2], DivergedError)
    assert len(networks[2].history.arrays()["train/loss"]) < 2500


def test_batched_checks_every_problem_first() -> None:
    problem = scratch_problem(array="jax")
    problems = [problem, replace(problem, X_train=problem.X_train * np.nan)]
    with pytest.raises(DataError, match="finite"):
        scratch.fit_batched(problems, start_monitors(problems))
    assert scratch.fit_batched([], []) == []
