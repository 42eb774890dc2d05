"""The tables of a comparison: the leaderboard, pairs of runs, classes, and configurations over their seeds."""

from collections.abc import Sequence
from itertools import combinations, groupby

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from twinnet.compare.statistics import accuracy_interval, calibration, compare_pairs, mean_interval
from twinnet.core.schema import Compare
from twinnet.training.run import Run

NO_DIFFERENCE = "no difference shown"
SCORES = ("accuracy", "mae")  # either may be empty, as a run is of classes or of regression
PAIRS = (
    "data_set", "stand_in", "first", "second", "difference", "low", "high", "only_first", "only_second", "p",
    "p_corrected", "verdict",
)  # fmt: skip


def leaderboard(runs: Sequence[Run], settings: Compare) -> pd.DataFrame:
    """One row a run: real data before stand-ins, data sets by name, then the best first.

    `low` and `high` bound the accuracy (Wilson) or the mean absolute error (bootstrap) at settings.confidence; `ece`
    is the expected calibration error.
    """
    rows = pd.DataFrame([_row(run, settings) for run in runs])
    rows["best_first"] = rows["mae"].fillna(1 - rows["accuracy"])
    order = ["stand_in", "data_set", "task", "best_first", "loss", "experiment"]
    return rows.sort_values(order, ignore_index=True).drop(columns="best_first")


def _row(run: Run, settings: Compare) -> dict[str, object]:
    accuracy = mae = ece = float("nan")
    if run.is_regression:
        errors = np.abs(run.y_prob[:, 0] - run.y_true)
        mae = float(errors.mean())
        low, high = mean_interval(errors, settings.confidence, settings.resamples, settings.seed)
    else:
        accuracy = float(run.is_correct.mean())
        low, high = accuracy_interval(run.is_correct, settings.confidence)
        ece = calibration(run.y_true, run.y_prob, settings.bins).error
    return {
        "data_set": run.dataset,
        "stand_in": run.is_synthetic,
        "task": "regression" if run.is_regression else "classes",
        "experiment": run.name,
        "split": run.split,
        "samples": len(run.y_true),
        "accuracy": accuracy,
        "mae": mae,
        "low": low,
        "high": high,
        "confidence": settings.confidence,
        "loss": run.loss,
        "ece": ece,
        "parameters": run.metrics["parameters"],
        "epochs": run.metrics["epochs"],
        "seconds": run.metrics["seconds"],
        "engine": run.experiment.engine.label,
        "device": run.metrics["device"],
        "data_source": run.metrics["data_source"],
        "note": "; ".join(run.notes),
    }


def pairs(runs: Sequence[Run], settings: Compare) -> pd.DataFrame:
    """Each two class runs of one data set that predicted the same samples; corrected within the data set.

    `difference` is the accuracy of the first less that of the second, in the order of the leaderboard; `low` and
    `high` bound all differences of the data set together; `verdict` names the better run, or says NO_DIFFERENCE.
    """
    rows = []
    for (stand_in, data_set), group in _by_data_set(runs):
        chosen = [(a, b) for a, b in combinations(group, 2) if np.array_equal(a.y_true, b.y_true)]
        tested = compare_pairs(
            [(a.is_correct, b.is_correct) for a, b in chosen], settings.confidence, settings.resamples, settings.seed
        )
        for (a, b), pair in zip(chosen, tested, strict=True):
            better = pair.better(settings.confidence)
            rows.append(
                {"data_set": data_set, "stand_in": stand_in, "first": a.name, "second": b.name}
                | {name: getattr(pair, name) for name in PAIRS if hasattr(pair, name)}
                | {"verdict": NO_DIFFERENCE if better < 0 else f"{(a, b)[better].name} is better"}
            )
    return pd.DataFrame(rows, columns=list(PAIRS))


def per_class(runs: Sequence[Run]) -> pd.DataFrame:
    """Precision, recall and F1 of each class of each class run, and how many samples are of it."""
    rows = []
    for _, group in _by_data_set(runs):
        for run in group:
            scores = precision_recall_fscore_support(
                run.y_true, run.y_pred, labels=range(len(run.classes)), zero_division=0
            )
            for label, values in zip(run.classes, zip(*scores, strict=True), strict=True):
                rows.append(
                    {"data_set": run.dataset, "stand_in": run.is_synthetic, "experiment": run.name}
                    | {"class": label}
                    | dict(zip(("precision", "recall", "f1", "samples"), values, strict=True))
                )
    columns = ["data_set", "stand_in", "experiment", "class", "precision", "recall", "f1", "samples"]
    return pd.DataFrame(rows, columns=columns)


def confusions(run: Run) -> pd.DataFrame:
    """How many samples of each class were predicted as each class, and their share of the true class; zeros too."""
    counts = confusion_matrix(run.y_true, run.y_pred, labels=range(len(run.classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "actual": np.repeat(run.classes, len(run.classes)),
            "predicted": np.tile(run.classes, len(run.classes)),
            "samples": counts.ravel(),
            "share": shares.ravel().round(6),
        }
    )


def _by_data_set(runs: Sequence[Run]) -> list[tuple[tuple[bool, str], list[Run]]]:
    """Class runs of each data set, the most accurate first; stand-ins last."""
    ordered = sorted(
        (run for run in runs if not run.is_regression),
        key=lambda run: (run.is_synthetic, run.dataset, -run.is_correct.mean(), run.loss, run.name),
    )
    grouped = groupby(ordered, key=lambda run: (run.is_synthetic, run.dataset))
    return [(key, list(group)) for key, group in grouped]
