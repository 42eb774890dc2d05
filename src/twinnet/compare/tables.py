"""The tables of a comparison: the leaderboard, pairs of runs, scores of classes, curves and calibration."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from twinnet.compare.statistics import accuracy_interval, calibration, compare_pairs, mean_interval
from twinnet.core.augmentation import views
from twinnet.core.metrics import count_confusions
from twinnet.core.schema import Compare
from twinnet.training.run import Run

NO_DIFFERENCE = "no difference shown"
MAX_SHOWN = 40  # runs of a section in figures and pairs, the best ones: pairs grow with the square
PAIRS = (
    "data_set", "synthetic", "first", "second", "difference", "low", "high", "only_first", "only_second", "p",
    "p_corrected", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A part of the leaderboard whose runs are comparable; synthetic data are never taken for real ones."""

    data_set: str
    is_synthetic: bool
    is_regression: bool

    @property
    def key(self) -> str:
        """Its name in file names."""
        return f"{self.data_set}{'_synthetic' * self.is_synthetic}{'_regression' * self.is_regression}"

    @property
    def title(self) -> str:
        return f"{self.data_set}{' (synthetic)' * self.is_synthetic}{', regression' * self.is_regression}"


def sections(board: pd.DataFrame) -> Iterator[tuple[Section, pd.DataFrame]]:
    """Yield each section of the leaderboard with its rows, in its order."""
    for (data_set, synthetic, task), rows in board.groupby(["data_set", "synthetic", "task"], sort=False):
        yield Section(str(data_set), bool(synthetic), task == "regression"), rows


def leaderboard(runs: Sequence[Run], settings: Compare) -> pd.DataFrame:
    """One row a run: real data before synthetic, data sets by name, then the best first, degenerate runs last.

    `low` and `high` bound the accuracy (Wilson) or the mean absolute error (bootstrap) at settings.confidence; `ece`
    is the expected calibration error, `majority` the accuracy of the most frequent class alone.
    """
    rows = pd.DataFrame([_row(run, settings) for run in runs])
    rows["best_first"] = rows["mae"].fillna(1 - rows["accuracy"])
    order = ["synthetic", "data_set", "task", "degenerate", "best_first", "loss", "experiment"]
    return rows.sort_values(order, ignore_index=True).drop(columns="best_first")


def _row(run: Run, settings: Compare) -> dict[str, object]:
    accuracy = mae = ece = majority = float("nan")
    if run.is_regression:
        errors = np.abs(run.y_prob[:, 0] - run.y_true)
        mae = float(errors.mean())
        low, high = mean_interval(errors, settings.confidence, settings.resamples, settings.seed)
    else:
        accuracy = float(run.is_correct.mean())
        low, high = accuracy_interval(run.is_correct, settings.confidence)
        ece = calibration(run.y_true, run.y_prob, settings.bins).error
        majority = float(np.bincount(run.y_true.astype(int)).max() / len(run.y_true))
    averaged = views(run.experiment.augmentation)
    notes = [*run.notes, *([f"is evaluated on each image and {averaged}"] if averaged else [])]
    return {
        "data_set": run.dataset,
        "synthetic": run.is_synthetic,
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
        "majority": majority,
        "parameters": run.metrics["parameters"],
        "epochs": run.metrics["epochs"],
        "seconds": run.metrics["seconds"],
        "engine": run.experiment.engine.label,
        "device": run.metrics["device"],
        "data_source": run.metrics["data_source"],
        "degenerate": run.is_degenerate,
        "note": "; ".join(notes),
    }


def pairs(runs: Sequence[Run], board: pd.DataFrame, settings: Compare) -> pd.DataFrame:
    """A row for each pair of classification runs on the same samples; p-values are corrected within the data set.

    `difference` is the accuracy of the first less that of the second, in the order of the leaderboard `board`; `low`
    and `high` bound all differences of the data set at once; `verdict` names the better run, or says NO_DIFFERENCE.
    """
    rows = []
    for section, group in by_section(runs, board):
        if section.is_regression:
            continue
        chosen = [(a, b) for a, b in combinations(group, 2) if np.array_equal(a.y_true, b.y_true)]
        tested = compare_pairs(
            [(a.is_correct, b.is_correct) for a, b in chosen], settings.confidence, settings.resamples, settings.seed
        )
        for (a, b), pair in zip(chosen, tested, strict=True):
            better = pair.better(settings.confidence)
            rows.append(
                {"data_set": section.data_set, "synthetic": section.is_synthetic, "first": a.name, "second": b.name}
                | asdict(pair)
                | {"verdict": NO_DIFFERENCE if better < 0 else f"{(a, b)[better].name} is better"}
            )
    return pd.DataFrame(rows, columns=list(PAIRS))


def by_section(runs: Sequence[Run], board: pd.DataFrame) -> list[tuple[Section, list[Run]]]:
    """Return the sections of the leaderboard, each with its runs, the best first and at most MAX_SHOWN."""
    by_name = {run.name: run for run in runs}
    return [(section, [by_name[name] for name in rows["experiment"][:MAX_SHOWN]]) for section, rows in sections(board)]


def per_class(runs: Sequence[Run], board: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 of each class of each class run, and the samples of the class."""
    by_name, rows = {run.name: run for run in runs}, []
    for name in board["experiment"]:
        run = by_name[name]
        if run.is_regression:
            continue
        scores = precision_recall_fscore_support(
            run.y_true, run.y_pred, labels=range(len(run.classes)), zero_division=0
        )
        for label, values in zip(run.classes, zip(*scores, strict=True), strict=True):
            row = {"data_set": run.dataset, "synthetic": run.is_synthetic, "experiment": name, "class": label}
            rows.append(row | dict(zip(("precision", "recall", "f1", "samples"), values, strict=True)))
    columns = ["data_set", "synthetic", "experiment", "class", "precision", "recall", "f1", "samples"]
    return pd.DataFrame(rows, columns=columns)


def curves(runs: Sequence[Run], metric: str) -> pd.DataFrame:
    """Epoch, run and `metric` of the validation split, a row for each run and recorded epoch."""
    parts = [
        pd.DataFrame({"epoch": run.history["epoch"], "run": run.name, metric: run.history[f"valid/{metric}"]})
        for run in sorted(runs, key=lambda run: run.name)
    ]
    return pd.concat(parts, ignore_index=True)


def calibration_bins(run: Run, settings: Compare) -> pd.DataFrame:
    """Mean confidence, accuracy and samples of each bin that is not empty."""
    bins = calibration(run.y_true, run.y_prob, settings.bins)
    return pd.DataFrame(
        {"confidence": bins.confidence.round(6), "accuracy": bins.accuracy.round(6), "samples": bins.samples}
    )


def confusions(run: Run) -> pd.DataFrame:
    """How many samples of each class were predicted as each class, and their share of the true class; zeros too."""
    counts = count_confusions(run.y_true, run.y_pred, len(run.classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "actual": np.repeat(run.classes, len(run.classes)),
            "predicted": np.tile(run.classes, len(run.classes)),
            "samples": counts.ravel(),
            "share": shares.ravel().round(6),
        }
    )
