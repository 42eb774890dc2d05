"""Intervals, paired tests and calibration against independent oracles."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, binomtest, bootstrap

from twinnet.compare.statistics import (
    accuracy_interval,
    calibration,
    compare_pairs,
    difference_interval,
    mcnemar_p,
    mean_interval,
)

pairs_of_runs = st.integers(1, 60).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n)))


@pytest.fixture(autouse=True, scope="module")
def _no_collection() -> Iterator[None]:
    """statsmodels collects garbage in every correction, a tenth of a second each in a process as large as a test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gc.collect", lambda: 0)
        yield


@settings(deadline=None, max_examples=40)
@given(arrays(bool, st.integers(1, 300)), st.sampled_from([0.8, 0.95, 0.99]))
@example(np.ones(10, dtype=bool), 0.95)
@example(np.zeros(10, dtype=bool), 0.95)
def test_accuracy_interval_is_wilsons(correct: np.ndarray, confidence: float) -> None:
    oracle = binomtest(int(correct.sum()), len(correct)).proportion_ci(confidence, method="wilson")
    assert accuracy_interval(correct, confidence) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(pairs_of_runs)
@example((np.array([True]), np.array([True])))
def test_mcnemar_is_the_binomial_test_of_the_disagreements(
    runs: tuple[np.ndarray, np.ndarray],
) -> None:
    first, second = runs
    wins, losses = int((first & ~second).sum()), int((~first & second).sum())
    direct = min(1.0, 2 * binom.cdf(min(wins, losses), wins + losses, 0.5)) if wins + losses else 1.0
    assert mcnemar_p(first, second) == pytest.approx(direct)
    assert mcnemar_p(first, second) == mcnemar_p(second, first)


def test_the_multinomial_bootstrap_is_the_resampling_of_samples() -> None:
    difference = np.random.default_rng(1).choice([-1, 0, 1], size=200, p=[0.1, 0.6, 0.3])
    resampled = bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2), batch=500
    ).confidence_interval
    ours = difference_interval(difference, 0.95, 20_000, seed=0)
    assert ours == pytest.approx((resampled.low, resampled.high), abs=0.01)
    assert ours == difference_interval(difference, 0.95, 20_000, seed=0)


def test_holm_is_applied_over_the_pairs_given_together() -> None:
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.5
    runs = [random.random(400) < share for share in (0.5, 0.62, 0.8)]
    chosen = [(runs[0], runs[1]), (runs[0], runs[2]), (truth, truth)]
    together = compare_pairs(chosen, 0.95, 2000, seed=0)
    ordered = sorted(pair.p for pair in together)
    by_hand, largest = {}, 0.0
    for rank, p in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        by_hand[p] = largest
    assert [pair.p_corrected for pair in together] == pytest.approx([by_hand[pair.p] for pair in together])
    alone = compare_pairs(chosen[:1], 0.95, 2000, seed=0)[0]
    assert alone.high - alone.low < together[0].high - together[0].low


@settings(deadline=None, max_examples=40)
@given(pairs_of_runs)
def test_pair_in_reverse_says_the_same(runs: tuple[np.ndarray, np.ndarray]) -> None:
    (one,) = compare_pairs([runs], 0.95, 500, seed=0)
    (other,) = compare_pairs([runs[::-1]], 0.95, 500, seed=0)
    assert (one.difference, one.only_first, one.only_second) == (-other.difference, other.only_second, other.only_first)
    assert one.p == other.p
    assert one.low <= one.difference + 1e-12
    assert one.high >= one.difference - 1e-12


def test_a_difference_is_shown_only_where_there_is_one() -> None:
    random = np.random.default_rng(3)
    good, same = random.random(2000) < 0.9, random.random(2000) < 0.9
    bad = random.random(2000) < 0.7
    verdicts = [pair.better(0.95) for pair in compare_pairs([(good, bad), (bad, good), (good, same)], 0.95, 2000, 0)]
    assert verdicts == [0, 1, -1]
    assert compare_pairs([(good, good)], 0.95, 500, 0)[0].better(0.95) == -1
    assert compare_pairs([], 0.95, 500, 0) == []


def test_twins_of_equal_skill_are_rarely_called_different() -> None:
    """At most about 5% of families of six pairs of equally good runs may hold a difference."""
    random = np.random.default_rng(4)
    wrong = 0
    for seed in range(200):
        runs = [random.random(150) < 0.8 for _ in range(4)]
        family = [(runs[i], runs[j]) for i in range(4) for j in range(i)]
        wrong += any(pair.better(0.95) >= 0 for pair in compare_pairs(family, 0.95, 200, seed))
    assert wrong <= 20  # binomial, 200 at 5%: more than 20 has a probability below 0.1%


def test_mean_interval_covers_the_mean_and_narrows() -> None:
    values = np.random.default_rng(5).exponential(size=900)
    low, high = mean_interval(values, 0.95, 2000, seed=0)
    normal = 1.96 * values.std() / 30
    assert (low, high) == pytest.approx((values.mean() - normal, values.mean() + normal), abs=0.02)
    assert mean_interval(values[:1], 0.95, 2000, seed=0) == (values[0], values[0])


def test_calibration_error_of_constructed_predictions() -> None:
    y_prob = np.array([[0.9]] * 10 + [[0.3]] * 10)  # confidences 0.9 for class 1 and 0.7 for class 0
    y_true = np.array([1] * 5 + [0] * 5 + [0] * 7 + [1] * 3)  # right in 50% and in 70%
    found = calibration(y_true, y_prob, bins=10)
    assert found.samples.tolist() == [10, 10]
    assert found.confidence == pytest.approx([0.7, 0.9])
    assert found.accuracy == pytest.approx([0.7, 0.5])
    assert found.error == pytest.approx((0 + 0.4) / 2)


def test_a_network_that_says_what_it_knows_is_calibrated() -> None:
    random = np.random.default_rng(6)
    p = random.random(100_000)
    found = calibration((random.random(100_000) < p).astype(int), p[:, None], bins=15)
    assert found.error < 0.01


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 50), st.integers(2, 5), st.integers(1, 20), st.integers(0, 9))
def test_every_sample_is_in_one_bin_of_the_calibration(n: int, classes: int, bins: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    y_prob = random.dirichlet(np.ones(classes), n)
    y_true = random.integers(classes, size=n)
    found = calibration(y_true, y_prob, bins)
    assert found.samples.sum() == n
    assert 0 <= found.error <= 1
    gap = abs((y_prob.argmax(axis=1) == y_true).mean() - y_prob.max(axis=1).mean())
    assert calibration(y_true, y_prob, 1).error == pytest.approx(gap)
    assert found.error >= gap - 1e-12
    certain = np.eye(classes)[y_true]
    assert calibration(y_true, certain, bins).error == 0
