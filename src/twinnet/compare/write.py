"""What a comparison leaves in reports/: tables, pictures, and files that DVC plots."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from twinnet.compare import figures as comparison
from twinnet.compare import report, tables
from twinnet.compare.results import Result
from twinnet.compare.statistics import calibration
from twinnet.core.schema import Compare
from twinnet.figures.run import STAND_IN, save

Images = Callable[[Result], np.ndarray | None]  # of the samples that a run predicted


def write(results: Sequence[Result], reports: Path, settings: Compare, images: Images) -> None:
    """Write every file of the comparison of `results` to `reports`; they appear there when all are complete."""
    reports.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".comparison-", dir=reports))
    try:
        board, pairs = tables.leaderboard(results, settings), tables.pairs(results, settings)
        classes = tables.per_class(results)
        board.to_csv(staging / "comparison.csv", index=False)
        pairs.to_csv(staging / "pairs.csv", index=False)
        classes.to_csv(staging / "per_class.csv", index=False)
        figures = _draw(results, board, classes, _folder(staging / "figures"), settings, images)
        (staging / "comparison.md").write_text(report.markdown(board, pairs, figures))
        (staging / "metrics.json").write_text(json.dumps(_metrics(board), indent=2) + "\n")
        _write_plots(results, staging / "plots", settings)
        for entry in sorted(staging.iterdir()):
            target = reports / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(entry, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _metrics(board: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For `dvc metrics`: the scores of each run."""
    rows = board.set_index("experiment")[["accuracy", "mae", "loss", "ece"]]
    return {str(name): {str(key): round(v, 6) for key, v in row.dropna().items()} for name, row in rows.iterrows()}


def _write_plots(results: Sequence[Result], directory: Path, settings: Compare) -> None:
    """confusion/<run>.csv with a row for each pair of true and predicted class, calibration/<run>.csv for each bin."""
    confusion, reliability = _folder(directory / "confusion"), _folder(directory / "calibration")
    for result in results:
        if result.regression:
            continue
        tables.confusions(result).to_csv(confusion / f"{result.name}.csv", index=False)
        bins = calibration(result.y_true, result.y_prob, settings.bins)
        pd.DataFrame(
            {"confidence": bins.confidence.round(6), "accuracy": bins.accuracy.round(6), "samples": bins.samples}
        ).to_csv(reliability / f"{result.name}.csv", index=False)


def _draw(
    results: Sequence[Result],
    board: pd.DataFrame,
    classes: pd.DataFrame,
    directory: Path,
    settings: Compare,
    images: Images,
) -> dict[str, list[str]]:
    """Paths of the figures of each section, relative to the report."""
    drawn: dict[str, list[str]] = {}
    by_name = {result.name: result for result in results}
    for (data_set, stand_in, task), rows in report.sections(board):
        chosen = [by_name[name] for name in rows["experiment"]]
        key, title = report.section(data_set, stand_in, task), report.title(data_set, stand_in, task)
        notes = [STAND_IN] if stand_in else []
        if silent := [result.name for result in chosen if result.notes()]:
            notes.append(f"{', '.join(silent)}: a loss that cannot teach the network anything")
        if task == "regression":
            figures = _section_figures(key, title, "mae", rows, chosen, notes)
        else:
            figures = _section_figures(key, title, "accuracy", rows, chosen, notes)
            if rows["parameters"].nunique() > 1:
                figures[f"parameters_{key}"] = comparison.parameters(rows, f"{title}: accuracy and size", notes)
            figures |= _class_figures(key, title, chosen, classes, settings, notes)
            figures |= _mistakes(chosen, images)
        drawn[key] = [
            f"{directory.name}/{save(figure, directory / f'{name}.png').name}" for name, figure in figures.items()
        ]
    return drawn


def _section_figures(
    key: str, title: str, score: str, rows: pd.DataFrame, chosen: Sequence[Result], notes: list[str]
) -> dict[str, Figure]:
    histories = {result.name: result.history for result in chosen}
    return {
        f"leaderboard_{key}": comparison.intervals(rows, score, f"{title}: leaderboard", notes),
        f"curves_{key}": comparison.curves(histories, score, f"{title}: learning curves", notes),
    }


def _class_figures(
    key: str, title: str, chosen: Sequence[Result], classes: pd.DataFrame, settings: Compare, notes: list[str]
) -> dict[str, Figure]:
    """Calibration, and the scores of each class; runs that name their classes otherwise get a picture of their own."""
    bins = {result.name: calibration(result.y_true, result.y_prob, settings.bins) for result in chosen}
    figures = {f"calibration_{key}": comparison.reliability(bins, f"{title}: calibration", notes)}
    for number, labels in enumerate(dict.fromkeys(tuple(result.classes) for result in chosen), start=1):
        names = [result.name for result in chosen if tuple(result.classes) == labels]
        rows = classes[classes["experiment"].isin(names)]
        suffix = f"_{number}" if number > 1 else ""
        figures[f"classes_{key}{suffix}"] = comparison.class_scores(rows, f"{title}: scores of each class", notes)
    return figures


def _mistakes(chosen: Sequence[Result], images: Images) -> dict[str, Figure]:
    figures = {}
    for result in chosen:
        shown, title = images(result), f"{result.name}: the mistakes it was surest of"
        notes = ([STAND_IN] if result.stand_in else []) + result.notes()
        if shown is not None and not result.correct.all():
            figures[f"mistakes_{result.name}"] = comparison.mistakes(
                shown, result.y_true, result.y_prob, result.classes, title, notes
            )
    return figures


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
