"""The tables of a comparison: the leaderboard, pairs of runs, classes, and configurations over their seeds."""

from collections.abc import Sequence
from itertools import combinations, groupby

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from twinnet.compare.results import Result
from twinnet.compare.statistics import accuracy_interval, calibration, compare_pairs, mean_interval
from twinnet.core.schema import Compare

NO_DIFFERENCE = "no difference shown"
SCORES = ("accuracy", "mae")  # either may be empty, as a run is of classes or of regression
PAIRS = (
    "data_set", "stand_in", "first", "second", "difference", "low", "high", "only_first", "only_second", "p",
    "p_corrected", "verdict",
)  # fmt: skip


def leaderboard(results: Sequence[Result], settings: Compare) -> pd.DataFrame:
    """One row a run: real data before stand-ins, data sets by name, then the best first.

    `low` and `high` bound the accuracy (Wilson) or the mean absolute error (bootstrap) at settings.confidence; `ece`
    is the expected calibration error.
    """
    rows = pd.DataFrame([_row(result, settings) for result in results])
    rows["best_first"] = rows["mae"].fillna(1 - rows["accuracy"])
    order = ["stand_in", "data_set", "task", "best_first", "loss", "experiment"]
    return rows.sort_values(order, ignore_index=True).drop(columns="best_first")


def _row(result: Result, settings: Compare) -> dict[str, object]:
    accuracy = mae = ece = float("nan")
    if result.regression:
        errors = np.abs(result.y_prob[:, 0] - result.y_true)
        mae = float(errors.mean())
        low, high = mean_interval(errors, settings.confidence, settings.resamples, settings.seed)
    else:
        accuracy = float(result.correct.mean())
        low, high = accuracy_interval(result.correct, settings.confidence)
        ece = calibration(result.y_true, result.y_prob, settings.bins).error
    return {
        "data_set": result.data_set,
        "stand_in": result.stand_in,
        "task": "regression" if result.regression else "classes",
        "experiment": result.name,
        "split": result.split,
        "samples": len(result.y_true),
        "accuracy": accuracy,
        "mae": mae,
        "low": low,
        "high": high,
        "confidence": settings.confidence,
        "loss": result.loss,
        "ece": ece,
        "parameters": result.metrics["parameters"],
        "epochs": result.metrics["epochs"],
        "seconds": result.metrics["seconds"],
        "engine": result.engine,
        "device": result.metrics["device"],
        "data_source": result.source,
        "note": "; ".join(result.notes()),
    }


def pairs(results: Sequence[Result], settings: Compare) -> pd.DataFrame:
    """Each two class runs of one data set that predicted the same samples; corrected within the data set.

    `difference` is the accuracy of the first less that of the second, in the order of the leaderboard; `low` and
    `high` bound all differences of the data set together; `verdict` names the better run, or says NO_DIFFERENCE.
    """
    rows = []
    for (stand_in, data_set), group in _by_data_set(results):
        chosen = [(a, b) for a, b in combinations(group, 2) if np.array_equal(a.y_true, b.y_true)]
        tested = compare_pairs(
            [(a.correct, b.correct) for a, b in chosen], settings.confidence, settings.resamples, settings.seed
        )
        for (a, b), pair in zip(chosen, tested, strict=True):
            better = pair.better(settings.confidence)
            rows.append(
                {"data_set": data_set, "stand_in": stand_in, "first": a.name, "second": b.name}
                | {name: getattr(pair, name) for name in PAIRS if hasattr(pair, name)}
                | {"verdict": NO_DIFFERENCE if better < 0 else f"{(a, b)[better].name} is better"}
            )
    return pd.DataFrame(rows, columns=list(PAIRS))


def per_class(results: Sequence[Result]) -> pd.DataFrame:
    """Precision, recall and F1 of each class of each class run, and how many samples are of it."""
    rows = []
    for _, group in _by_data_set(results):
        for result in group:
            scores = precision_recall_fscore_support(
                result.y_true, result.y_pred, labels=range(len(result.classes)), zero_division=0
            )
            for label, values in zip(result.classes, zip(*scores, strict=True), strict=True):
                rows.append(
                    {"data_set": result.data_set, "stand_in": result.stand_in, "experiment": result.name}
                    | {"class": label}
                    | dict(zip(("precision", "recall", "f1", "samples"), values, strict=True))
                )
    columns = ["data_set", "stand_in", "experiment", "class", "precision", "recall", "f1", "samples"]
    return pd.DataFrame(rows, columns=columns)


def confusions(result: Result) -> pd.DataFrame:
    """How many samples of each class were predicted as each class, and their share of the true class; zeros too."""
    counts = confusion_matrix(result.y_true, result.y_pred, labels=range(len(result.classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "actual": np.repeat(result.classes, len(result.classes)),
            "predicted": np.tile(result.classes, len(result.classes)),
            "samples": counts.ravel(),
            "share": shares.ravel().round(6),
        }
    )


def _by_data_set(results: Sequence[Result]) -> list[tuple[tuple[bool, str], list[Result]]]:
    """Class runs of each data set, the most accurate first; stand-ins last."""
    ordered = sorted(
        (result for result in results if not result.regression),
        key=lambda result: (result.stand_in, result.data_set, -result.correct.mean(), result.loss, result.name),
    )
    grouped = groupby(ordered, key=lambda result: (result.stand_in, result.data_set))
    return [(key, list(group)) for key, group in grouped]
