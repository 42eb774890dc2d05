"""The files of a comparison in reports/: tables, pictures, and what DVC plots and prints."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from twinnet.compare import figures, report, tables
from twinnet.compare.draw import FigureCache, draw_runs, seasons
from twinnet.compare.statistics import calibration
from twinnet.compare.tables import Section
from twinnet.core.paths import write_text
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.core.schema import Compare
from twinnet.figures.run import unit_of
from twinnet.training.run import STAGING, Run, read_runs, remove_stale_staging

COMPARISON = "comparison"  # the folder of the tables, the report and its figures
FIGURES = ("leaderboard", "curves", "parameters", "calibration", "classes")  # of a section, in the report's order


def write_comparison(
    runs: Path,
    reports: Path,
    settings: Compare | None = None,
    *,
    names: Sequence[str] | None = None,
    root: Path = Path(),
) -> None:
    """Compare the runs under `runs` (those named, or all); write comparison/, runs/, plots/ and metrics/.

    They appear in `reports` when all are complete. The data of the pictures come from data/processed/ under `root`.

    Raises DataError, in one line, if there is no run, or one is missing, incomplete or contradicts itself.
    """
    settings, found = settings or Compare(), read_runs(runs, names)
    reports.mkdir(parents=True, exist_ok=True)
    remove_stale_staging(reports)
    staging = _folder(reports / f"{STAGING}{os.getpid()}")
    try:
        board = tables.leaderboard(found, settings)
        _write_report(found, board, staging, settings, root)
        _write_plots(found, board, staging / "plots", settings)
        _write_metrics(found, board, _folder(staging / "metrics"))
        for entry in staging.iterdir():
            target = reports / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(entry, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_metrics(runs: Sequence[Run], board: pd.DataFrame, directory: Path) -> None:
    """Write metrics.json, the accuracy or mean absolute error of each run, and metrics/, the other scores too.

    DVC names a metric without its path if no other has its name: the columns of `dvc exp show` are runs. A file each
    run is a row each of `dvc metrics show reports/metrics`. Times would differ in every `diff`.
    """
    scores, metrics = board.set_index("experiment")[["accuracy", "mae", "loss", "ece"]], {}
    for run in runs:
        of_run = {str(key): float(value) for key, value in scores.loc[run.name].dropna().items()}
        of_run |= {part: float(run.metrics[f"{part}/{run.metric}"]) for part in ("train", "valid")}
        rounded = {key: float(f"{value:.4g}") for key, value in of_run.items()}
        metrics[run.name] = rounded[run.metric]
        write_text(directory / f"{run.name}.json", json.dumps(rounded, indent=2) + "\n")
    write_text(directory.with_suffix(".json"), json.dumps(metrics, indent=2) + "\n")


def _write_plots(runs: Sequence[Run], board: pd.DataFrame, directory: Path, settings: Compare) -> None:
    """Write loss/ and accuracy/ (a file each section, long), confusion/ and calibration/ (a file each run)."""
    loss, accuracy, confusion, reliability = (
        _folder(directory / name) for name in ("loss", "accuracy", "confusion", "calibration")
    )
    for section, chosen in tables.by_section(runs, board):
        for folder, metric in ((loss, "loss"), (accuracy, "accuracy")):
            if not (section.is_regression and metric == "accuracy"):
                curves = tables.curves(chosen, metric)
                curves.to_csv(folder / f"{section.key}.csv", index=False, float_format="%.7g")
        for run in chosen:
            if not run.is_regression:
                tables.confusions(run).to_csv(confusion / f"{run.name}.csv", index=False)
                tables.calibration_bins(run, settings).to_csv(reliability / f"{run.name}.csv", index=False)


def _write_report(runs: Sequence[Run], board: pd.DataFrame, directory: Path, settings: Compare, root: Path) -> None:
    """Write comparison/ with its figures, and runs/ with those of each run."""
    folder = _folder(directory / COMPARISON)
    pairs, classes = tables.pairs(runs, board, settings), tables.per_class(runs, board)
    for name, table in (("comparison", board), ("pairs", pairs), ("per_class", classes)):
        table.to_csv(folder / f"{name}.csv", index=False)
    colours: dict[str, str] = {}
    for _, chosen in tables.by_section(runs, board):
        colours |= figures.run_colours([run.name for run in chosen])
    figure_cache = FigureCache(root)
    of_runs = draw_runs(runs, _folder(directory / "runs"), colours, figure_cache)
    drawn: dict[str, list[str]] = {}
    for section, chosen in tables.by_section(runs, board):
        rows = board[board["experiment"].isin([run.name for run in chosen])]
        parts = [section.title, asdict(settings), *[[colours[run.name], *figure_cache.key(run)] for run in chosen]]
        draw = partial(_section_figures, section, rows, chosen, classes, settings, root, colours)
        paths = sorted(figure_cache.draw(parts, folder / "figures", draw), key=_place)
        paths += [path for run in chosen for path in of_runs[run.name] if path.stem == "mistakes"]
        drawn[section.key] = [os.path.relpath(path, folder) for path in paths]
    figure_cache.drop_unused()
    (folder / "comparison.md").write_text(report.markdown(board, pairs, drawn), encoding="utf-8")


def _place(figure: Path) -> int:
    return FIGURES.index(figure.stem.partition("_")[0])


def _section_figures(
    section: Section,
    rows: pd.DataFrame,
    chosen: Sequence[Run],
    classes: pd.DataFrame,
    settings: Compare,
    root: Path,
    colours: figures.Colours,
) -> dict[str, Figure]:
    """Return the figures of a section by their file names, which begin with one of FIGURES."""
    key, notes = section.key, [SYNTHETIC_NOTE] if section.is_synthetic else []
    title = section.title.replace(section.data_set, f"{section.data_set} {seasons(section.data_set, root)}".strip(), 1)
    if degenerate := [run.name for run in chosen if run.is_degenerate]:
        notes.append(f"{', '.join(degenerate)}: a loss that cannot teach the network anything")
    samples = ", ".join(dict.fromkeys(report.samples(row) for row in rows.to_dict("records"))) + " samples"
    metric = "mae" if section.is_regression else "accuracy"
    unit = unit_of(chosen[0].experiment.data)
    sizes = {run.info.data.get("samples", {}).get("valid") for run in chosen} - {None}
    validated = f"{', '.join(f'{size:,}' for size in sorted(sizes))} validation samples".lstrip()
    drawn = {
        f"leaderboard_{key}": figures.intervals(rows, metric, f"{title}: leaderboard, {samples}", colours, notes, unit),
        f"curves_{key}": figures.curves(
            {run.name: run.full_history() for run in chosen},
            metric,
            f"{title}: learning curves, {validated}",
            colours,
            notes,
            float(rows["majority"].max()) if set(rows["split"]) == {"valid"} else None,
            unit,
            degenerate,
        ),
    }
    if section.is_regression:
        return drawn
    if rows["parameters"].nunique() > 1:
        drawn[f"parameters_{key}"] = figures.parameters(rows, f"{title}: accuracy and size, {samples}", colours, notes)
    bins = {run.name: calibration(run.y_true, run.y_prob, settings.bins) for run in chosen}
    drawn[f"calibration_{key}"] = figures.reliability(bins, f"{title}: calibration, {samples}", colours, notes)
    for number, labels in enumerate(dict.fromkeys(tuple(run.classes) for run in chosen), start=1):
        of_labels = [run.name for run in chosen if tuple(run.classes) == labels]
        scores = classes[classes["experiment"].isin(of_labels)]
        suffix = f"_{number}" if number > 1 else ""  # runs that name their classes otherwise
        drawn[f"classes_{key}{suffix}"] = figures.class_scores(
            scores, f"{title}: scores of each class, {samples}", notes
        )
    return drawn


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path
