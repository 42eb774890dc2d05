"""Confidence intervals, paired tests and calibration.

`correct` is (samples,), true for a right prediction; y_true and y_prob are as in `core.metrics`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from twinnet.core.metrics import class_probabilities

# ---------------------------------------------------------------------------------- intervals around a score


def accuracy_interval(correct: np.ndarray, confidence: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of the accuracy."""
    low, high = proportion_confint(int(np.sum(correct)), len(correct), alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def seeds_interval(scores: np.ndarray, confidence: float) -> tuple[float, float]:
    """Student's t interval of the mean of `scores`, (seeds,); NaN for a single one."""
    if len(scores) < 2:
        return float("nan"), float("nan")
    low, high = DescrStatsW(scores).tconfint_mean(alpha=1 - confidence)
    return float(low), float(high)


def mean_interval(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, (samples,)."""
    if len(values) < 2:
        return float(np.mean(values)), float(np.mean(values))
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 10_000_000 // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


# ------------------------------------------------------------------------------------------- pairs of runs


@dataclass(frozen=True)
class Pair:
    """Two runs on the same samples: `difference` is the accuracy of the first less that of the second."""

    difference: float
    low: float
    high: float
    only_first: int  # samples that only the first predicts right
    only_second: int
    p: float  # McNemar's exact test
    p_corrected: float  # Holm (1979), over all pairs of a call

    def better(self, confidence: float) -> int:
        """0 or 1 for the better run; -1 unless both the corrected test and the interval show a difference."""
        shown = self.p_corrected < 1 - confidence and (self.low > 0 or self.high < 0)
        return (0 if self.difference > 0 else 1) if shown else -1


def compare_pairs(
    pairs: list[tuple[np.ndarray, np.ndarray]], confidence: float, resamples: int, seed: int
) -> list[Pair]:
    """Test each pair of `correct` arrays, (samples,) each, with a correction for the number of pairs.

    The test is McNemar's exact one with Holm's correction. The interval of the difference is a paired percentile
    bootstrap at the confidence 1 - (1 - confidence) / pairs (Bonferroni), so that all intervals hold at once.
    """
    if not pairs:
        return []
    p_values = [mcnemar_p(first, second) for first, second in pairs]
    corrected = multipletests(p_values, alpha=1 - confidence, method="holm")[1]
    simultaneous = 1 - (1 - confidence) / len(pairs)
    compared = []
    for (first, second), p, p_corrected in zip(pairs, p_values, corrected, strict=True):
        difference = np.asarray(first, dtype=int) - np.asarray(second, dtype=int)
        low, high = difference_interval(difference, simultaneous, resamples, seed)
        wins, losses = int(np.sum(difference > 0)), int(np.sum(difference < 0))
        compared.append(Pair(float(difference.mean()), low, high, wins, losses, p, float(p_corrected)))
    return compared


def mcnemar_p(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact test on two `correct` arrays of the same samples: the two-sided binomial p-value."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    table = [
        [np.sum(first & second), np.sum(first & ~second)],
        [np.sum(~first & second), np.sum(~first & ~second)],
    ]
    return float(mcnemar(table, exact=True).pvalue)


def difference_interval(difference: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `difference`, (samples,), whose values are -1, 0 or 1.

    The counts of the three values in a resample are multinomial; drawing them is the same bootstrap at the cost of one
    draw a resample.
    """
    samples = len(difference)
    shares = np.array([np.mean(difference < 0), np.mean(difference > 0)])
    counts = np.random.default_rng(seed).multinomial(samples, [*shares, max(0.0, 1 - shares.sum())], size=resamples)
    means = (counts[:, 1] - counts[:, 0]) / samples
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# --------------------------------------------------------------------------------------------- calibration


@dataclass(frozen=True)
class Calibration:
    """Bins of the confidence of the predicted class, without empty ones; all arrays are (bins,)."""

    confidence: np.ndarray  # mean in the bin
    accuracy: np.ndarray
    samples: np.ndarray
    error: float  # expected calibration error: mean |accuracy - confidence|, weighted by samples (Guo et al. 2017)


def calibration(y_true: np.ndarray, y_prob: np.ndarray, bins: int) -> Calibration:
    """Calibration of the predicted class over `bins` bins of equal width between 1 / classes and 1."""
    probabilities = class_probabilities(y_prob)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(y_true)
    edges = np.linspace(1 / probabilities.shape[1], 1, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    samples = np.bincount(which, minlength=bins)
    filled = samples > 0
    mean_confidence = np.bincount(which, confidence, minlength=bins)[filled] / samples[filled]
    accuracy = np.bincount(which, correct, minlength=bins)[filled] / samples[filled]
    error = float(np.average(np.abs(accuracy - mean_confidence), weights=samples[filled]))
    return Calibration(mean_confidence, accuracy, samples[filled], error)
