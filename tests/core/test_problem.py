"""History and Monitor: what is recorded, when a training stops, what a diverged one leaves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.problems import assemble
from twinnet.core.errors import DivergedError
from twinnet.core.history import MAX_RECORDS, Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, EarlyStopping


def problem(samples: int = 10, epochs: int = 5, batch_size: int = 4, seed: int = 0) -> Problem:
    network = Network((2,), (Dense(1, Activation.sigmoid),))
    X, y = np.zeros((samples, 2)), np.zeros(samples, dtype=int)
    return assemble(network, (X, y), (X, y), epochs=epochs, batch_size=batch_size, seed=seed)


def chunk(*losses: float, valid: float = 0.5) -> Chunk:
    return Chunk(np.array(losses), np.full(len(losses), 0.5), valid, 0.5)


@settings(deadline=None)
@given(st.integers(1, 200_000))
def test_at_most_a_thousand_chunks_cover_each_epoch_once(epochs: int) -> None:
    chunks = list(problem(epochs=epochs).chunks())
    assert len(chunks) <= MAX_RECORDS
    assert sum(map(len, chunks)) == epochs
    assert [c.start for c in chunks[1:]] == [c.stop for c in chunks[:-1]]


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_order_is_a_permutation_of_seed_and_epoch(samples: int, epoch: int, seed: int) -> None:
    posed = problem(samples=samples, batch_size=1, seed=seed)
    assert sorted(posed.order(epoch)) == list(range(samples))
    np.testing.assert_array_equal(posed.order(epoch), posed.order(epoch))
    assert not np.array_equal(problem(samples=400, batch_size=1, seed=seed).order(epoch),
                              problem(samples=400, batch_size=1, seed=seed).order(epoch + 1))  # fmt: skip


def test_one_batch_an_epoch_keeps_the_samples_as_they_are() -> None:
    np.testing.assert_array_equal(problem(samples=10, batch_size=10).order(3), np.arange(10))


@pytest.mark.parametrize(("samples", "batch_size", "steps"), [(10, 4, 3), (8, 4, 2), (3, 4, 1)])
def test_no_sample_of_an_epoch_is_dropped(samples: int, batch_size: int, steps: int) -> None:
    assert problem(samples=samples, batch_size=batch_size).steps_per_epoch == steps


def test_table_has_a_row_for_each_evaluation() -> None:
    monitor = Monitor("accuracy")
    monitor(chunk(3.0, 2.0, valid=1.9))
    monitor(chunk(1.0, valid=0.9))
    table = monitor.history.table()
    assert list(table) == ["epoch", "train/loss", "train/accuracy", "valid/loss", "valid/accuracy"]
    assert table["epoch"].tolist() == [2, 3]
    assert table["train/loss"].tolist() == [2.0, 1.0]
    assert table["valid/loss"].tolist() == [1.9, 0.9]
    assert monitor.history.arrays()["train/loss"].tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_loss_names_its_epoch_and_last_finite_loss(bad: float) -> None:
    monitor = Monitor("accuracy")
    monitor(chunk(0.7, 0.6))
    with pytest.raises(DivergedError, match=r"epoch 4; the last finite loss was 0\.9;.*learning_rate") as error:
        monitor(chunk(0.9, bad, 2.0))
    assert error.value.history.epochs == 2  # type: ignore[attr-defined]  # a History


def test_a_validation_loss_that_diverges_stops_too() -> None:
    with pytest.raises(DivergedError, match="epoch 2"):
        Monitor("accuracy")(chunk(0.7, 0.6, valid=np.nan))


def test_early_stopping_waits_and_knows_the_best_epoch() -> None:
    monitor = Monitor("accuracy", EarlyStopping(patience=2, min_delta=0.01))
    told = [monitor(chunk(1.0, valid=valid)) for valid in (0.9, 0.8, 0.795, 0.81)]
    assert told == [False, False, False, True]
    assert (monitor.best_epoch, monitor.best_loss) == (2, 0.8)


def test_without_early_stopping_nothing_stops_and_nothing_is_best() -> None:
    monitor = Monitor("accuracy", replace(EarlyStopping(), patience=None))
    assert not any(monitor(chunk(1.0, valid=valid)) for valid in (0.1, 0.9, 0.9, 0.9))
    assert monitor.best_epoch is None
