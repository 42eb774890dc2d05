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
from twinnet.compare.statistics import calibration
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.core.schema import Compare
from twinnet.figures.run import save
from twinnet.training.run import Run

Images = Callable[[Run], np.ndarray | None]  # of the samples that a run predicted


def write(runs: Sequence[Run], reports: Path, settings: Compare, images: Images) -> None:
    """Write every file of the comparison of `runs` to `reports`; they appear there when all are complete."""
    reports.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".comparison-", dir=reports))
    try:
        board, pairs = tables.leaderboard(runs, settings), tables.pairs(runs, settings)
        classes = tables.per_class(runs)
        board.to_csv(staging / "comparison.csv", index=False)
        pairs.to_csv(staging / "pairs.csv", index=False)
        classes.to_csv(staging / "per_class.csv", index=False)
        figures = _draw(runs, board, classes, _folder(staging / "figures"), settings, images)
        (staging / "comparison.md").write_text(report.markdown(board, pairs, figures))
        (staging / "metrics.json").write_text(json.dumps(_metrics(board), indent=2) + "\n")
        _write_plots(runs, staging / "plots", settings)
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


def _write_plots(runs: Sequence[Run], directory: Path, settings: Compare) -> None:
    """confusion/<run>.csv with a row for each pair of true and predicted class, calibration/<run>.csv for each bin."""
    confusion, reliability = _folder(directory / "confusion"), _folder(directory / "calibration")
    for run in runs:
        if run.is_regression:
            continue
        tables.confusions(run).to_csv(confusion / f"{run.name}.csv", index=False)
        bins = calibration(run.y_true, run.y_prob, settings.bins)
        pd.DataFrame(
            {"confidence": bins.confidence.round(6), "accuracy": bins.accuracy.round(6), "samples": bins.samples}
        ).to_csv(reliability / f"{run.name}.csv", index=False)


def _draw(
    runs: Sequence[Run],
    board: pd.DataFrame,
    classes: pd.DataFrame,
    directory: Path,
    settings: Compare,
    images: Images,
) -> dict[str, list[str]]:
    """Paths of the figures of each section, relative to the report."""
    drawn: dict[str, list[str]] = {}
    by_name = {run.name: run for run in runs}
    for (data_set, stand_in, task), rows in report.sections(board):
        chosen = [by_name[name] for name in rows["experiment"]]
        key, title = report.section(data_set, stand_in, task), report.title(data_set, stand_in, task)
        notes = [SYNTHETIC_NOTE] if stand_in else []
        if silent := [run.name for run in chosen if run.notes]:
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
    key: str, title: str, score: str, rows: pd.DataFrame, chosen: Sequence[Run], notes: list[str]
) -> dict[str, Figure]:
    histories = {run.name: run.history for run in chosen}
    return {
        f"leaderboard_{key}": comparison.intervals(rows, score, f"{title}: leaderboard", notes),
        f"curves_{key}": comparison.curves(histories, score, f"{title}: learning curves", notes),
    }


def _class_figures(
    key: str, title: str, chosen: Sequence[Run], classes: pd.DataFrame, settings: Compare, notes: list[str]
) -> dict[str, Figure]:
    """Calibration, and the scores of each class; runs that name their classes otherwise get a picture of their own."""
    bins = {run.name: calibration(run.y_true, run.y_prob, settings.bins) for run in chosen}
    figures = {f"calibration_{key}": comparison.reliability(bins, f"{title}: calibration", notes)}
    for number, labels in enumerate(dict.fromkeys(tuple(run.classes) for run in chosen), start=1):
        names = [run.name for run in chosen if tuple(run.classes) == labels]
        rows = classes[classes["experiment"].isin(names)]
        suffix = f"_{number}" if number > 1 else ""
        figures[f"classes_{key}{suffix}"] = comparison.class_scores(rows, f"{title}: scores of each class", notes)
    return figures


def _mistakes(chosen: Sequence[Run], images: Images) -> dict[str, Figure]:
    figures = {}
    for run in chosen:
        shown, title = images(run), f"{run.name}: the mistakes it was surest of"
        notes = ([SYNTHETIC_NOTE] if run.is_synthetic else []) + run.notes
        if shown is not None and not run.is_correct.all():
            figures[f"mistakes_{run.name}"] = comparison.mistakes(
                shown, run.y_true, run.y_prob, run.classes, title, notes
            )
    return figures


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
