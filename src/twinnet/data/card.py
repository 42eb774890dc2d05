"""The card of a data set, reports/data/<name>/card.md and samples.png: its source and contents."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from twinnet.core import paths, provenance
from twinnet.core.provenance import Provenance
from twinnet.core.schema import Dataset, NBADataset, Scaling, TableData, Task, season_name
from twinnet.core.splits import Splits
from twinnet.data.formats import nba
from twinnet.figures.run import axis_names
from twinnet.figures.style import BLUE, PALETTE, Figure, new_figure, save, styled
from twinnet.training.dataset import SPLITS, load_splits, read_table

FOLDER = paths.REPORTS / "data"
SHOWN = 12  # images of each class


def write(dataset: Dataset, root: Path = Path(".")) -> Path:
    """Write the data card and its picture from data/processed/<name>/; return the card. Raises DataError."""
    recorded = provenance.read(dataset.name, root, paths.PROCESSED)
    reading = dataset.reading
    table = read_table(reading, root) if isinstance(reading, TableData) else None
    as_stored = "float64" if isinstance(reading, TableData) else "uint8"
    splits = load_splits(replace(reading, scaling=Scaling.none), root=root, dtype=as_stored)
    folder = root / FOLDER / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    save(picture(dataset, splits, table, recorded), folder / "samples.png")
    card = folder / "card.md"
    paths.write_text(card, text(dataset, splits, table, recorded))
    return card


def text(dataset: Dataset, splits: Splits, table: pd.DataFrame | None, recorded: Provenance) -> str:
    """Return the card in Markdown."""
    files = [(f"`{file.name}`", f"{file.bytes:,}", f"`{file.sha256}`", file.address) for file in recorded.files]
    note = [f"**{recorded.note}**", ""] if recorded.note else []
    parts = [
        f"# {dataset.title or dataset.name}",
        "",
        *note,
        *_markdown(("", ""), [("source", recorded.source), ("licence", recorded.licence), *_about(dataset)]),
        "![samples](samples.png)",
        "",
        "## Files",
        *_markdown(("file", "bytes", "SHA-256", "from"), files),
        "## Samples of each split",
        *_markdown(*_balance(dataset, splits)),
        "## Values",
        *_values(splits.X_train, table),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


@styled
def picture(dataset: Dataset, splits: Splits, table: pd.DataFrame | None, recorded: Provenance) -> Figure:
    """Draw samples of each class: rows of images, or the rows of a table on its first two features."""
    notes = [recorded.note] if recorded.note else []
    kind = "players" if isinstance(dataset, NBADataset) else "samples" if table is not None else "training samples"
    size = len(table) if table is not None else len(splits.y_train)
    title = f"{dataset.title or dataset.name}{''.join(f', {value}' for _, value in _about(dataset))}: "
    title += f"{size:,} {kind} (source: {recorded.source})"
    if table is not None and isinstance(dataset.reading, TableData):
        return _scatter(dataset.reading, table, kind, title, notes)
    return _grid(dataset.reading.classes or [], splits, title, notes)


def _scatter(reading: TableData, table: pd.DataFrame, kind: str, title: str, notes: list[str]) -> Figure:
    figure = new_figure(9.6, 4.8, title, notes)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    first, second = (*reading.features, *reading.features)[:2]
    names = axis_names(reading)
    left.set(xlabel=names.get(first, first), ylabel=names.get(second, second), title=kind)
    if not reading.classes:
        left.scatter(table[first], table[second], s=14, alpha=0.6, color=BLUE)
        right.hist(table[reading.target], bins=30, color=BLUE)
        right.set(xlabel=names.get(reading.target, reading.target), ylabel=kind)
        return figure
    for label, name in enumerate(reading.classes):
        rows = table[table[reading.target] == label]
        left.scatter(rows[first], rows[second], s=14, alpha=0.6, color=PALETTE[label % len(PALETTE)], label=name)
    left.legend()
    labels = table["pos"] if kind == "players" else table[reading.target].map(dict(enumerate(reading.classes)))
    counts = labels.value_counts()
    right.barh(counts.index[::-1], counts.to_numpy()[::-1], color=BLUE)
    right.set(xlabel=kind, title="positions" if kind == "players" else "classes")
    return figure


def _grid(classes: list[str], splits: Splits, title: str, notes: list[str]) -> Figure:
    X, y = splits.X_train, splits.y_train
    rows = []
    for label in range(len(classes)):
        some = X[np.flatnonzero(y == label)[:SHOWN]]
        blank = np.zeros((SHOWN - len(some), *X.shape[1:]), X.dtype)
        rows.append(np.concatenate([*np.concatenate([some, blank])], axis=1))
    figure = new_figure(8.6, 0.55 * len(classes) + 0.9, title, notes)
    axes = figure.subplots()
    axes.imshow(np.concatenate(rows), cmap="gray")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks(X.shape[1] * (np.arange(len(classes)) + 0.5), classes)
    return figure


def _about(dataset: Dataset) -> list[tuple[str, str]]:
    if not isinstance(dataset, NBADataset):
        return []
    seasons = ", ".join(season_name(season) for season in nba.seasons(dataset))
    return [("season", seasons), ("type of season", nba.title(dataset.season_type))]


def _balance(dataset: Dataset, splits: Splits) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: samples of each split and, for classes, of each class."""
    labels = {split: y for split in SPLITS if (y := getattr(splits, f"y_{split}")) is not None}
    rows = [["all", *(f"{len(y):,}" for y in labels.values())]]
    if dataset.reading.task is not Task.regression:
        for label, name in enumerate(dataset.reading.classes or []):
            share = [y == label for y in labels.values()]
            rows.append([name, *(f"{members.sum():,} ({members.mean():.1%})" for members in share)])
    return ["class", *labels], rows


def _values(X: np.ndarray, table: pd.DataFrame | None) -> list[str]:
    if table is None:
        facts = [
            ("shape", f"{' x '.join(map(str, X.shape[1:]))}, {X.dtype}"),
            ("range", f"{X.min()} to {X.max()}"),
            ("mean of the training split", f"{X.mean():.3f}"),
            ("missing values", "none: every pixel is there"),
        ]
        return _markdown(("", ""), facts)
    shown = table[[column for column in table if not str(column).endswith("_rank")]]
    rows = []
    for column in shown:
        values = shown[column]
        low, mean, high = "", f"{values.nunique()} different", ""
        if pd.api.types.is_numeric_dtype(values):
            low, mean, high = (f"{value:g}" for value in (values.min(), round(values.mean(), 3), values.max()))
        rows.append((f"`{column}`", low, mean, high, str(int(values.isna().sum()))))
    return _markdown(("column", "least", "mean", "most", "missing"), rows)


def _markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table, an empty one last; none if there are no rows."""
    header, body = list(header), [list(row) for row in rows]
    if not body:
        return []
    lines = [header, ["---"] * len(header), *body]
    return ["", *("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines), ""]
