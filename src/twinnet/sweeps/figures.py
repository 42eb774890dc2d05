"""Figures of a sweep: all swept keys side by side, the effect of each key, and a metric over one key."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinnet.figures.style import BLACK, BLUE, ORANGE, new_figure, save, styled
from twinnet.sweeps.job import DONE
from twinnet.sweeps.summary import minimizes

MAX_KEYS = 12  # swept keys; more do not fit on a page
LOG_RATIO = 10.0  # positive values that span at least this factor are drawn on a logarithmic axis
MAX_NAMES = 12  # categories that are all labelled
LABEL_GAP = 0.05  # between two labels of an axis in parallel coordinates, as a fraction of its height
LABEL_LENGTH = 18  # characters
RAMP = LinearSegmentedColormap.from_list("objective", [BLUE, "#B8B8B8", ORANGE])


def draw(table: pd.DataFrame, swept: Sequence[str], objective: str, folder: Path) -> list[Path]:
    """Write parallel_coordinates.png and effects.png; none if nothing was swept or fewer than two jobs finished."""
    done = table[table["status"].isin(DONE)]
    if objective in done:
        done = done[np.isfinite(done[objective].astype(float))]
    if len(done) < 2 or not swept or objective not in done:
        return []
    keys = list(swept)[:MAX_KEYS]
    return [
        save(parallel_coordinates(done, keys, objective), folder / "parallel_coordinates.png"),
        save(effects(done, keys, objective), folder / "effects.png"),
    ]


@styled
def parallel_coordinates(done: pd.DataFrame, keys: Sequence[str], objective: str) -> Figure:
    """Draw a line for each job through its values, coloured by the objective; the best one black."""
    figure = new_figure(2.2 + 1.7 * len(keys), 4.4, f"{len(done)} jobs: {objective} by swept key")
    axes = figure.add_subplot()
    values = done[objective].to_numpy(float)
    scales = [_Scale(done[key]) for key in keys] + [_Scale(done[objective], is_metric=True)]
    lines = np.stack([scale.height for scale in scales], axis=1)
    best_last = np.argsort(-values if minimizes(objective) else values)
    norm = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1)
    for row in best_last[:-1]:
        axes.plot(lines[row], color=RAMP(norm(values[row])), linewidth=1.0, alpha=0.65)
    axes.plot(lines[best_last[-1]], color=BLACK, linewidth=2.2)
    for place, scale in enumerate(scales):
        axes.axvline(place, color="#999999", linewidth=0.8, zorder=0)
        for height, text in scale.labels():
            axes.text(place + 0.02, height, text, fontsize=8, va="center",
                      bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    axes.set_xticks(range(len(scales)), [*map(_two_lines, keys), objective])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(-0.15, len(scales) - 0.55)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


@styled
def effects(done: pd.DataFrame, keys: Sequence[str], objective: str) -> Figure:
    """Draw a panel for each key: every job as a dot over its value, and the mean at each value."""
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    figure = new_figure(3.4 * columns + 0.4, 2.9 * rows, f"{objective} by each key alone: jobs, and their mean")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for axes, key in zip(panels, keys, strict=False):
        _draw_effect(axes, done[key], done[objective].to_numpy(float))
        axes.set_xlabel(_two_lines(key))
    for axes in panels[len(keys) :]:
        axes.remove()
    for axes in panels[: len(keys) : columns]:
        axes.set_ylabel(objective)
    return figure


@styled
def plot_sweep(runs: pd.DataFrame, parameter: str, metric: str, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw each run as a dot, and the mean at each value of the parameter.

    `runs` is as mlflow.search_runs returns it, with columns `params.<parameter>` and `metrics.<metric>`; runs without
    either are left out.
    """
    shown = runs[[f"params.{parameter}", f"metrics.{metric}"]].dropna()
    figure = new_figure(7, 4, title, notes)
    axes = figure.subplots()
    _draw_effect(axes, shown[f"params.{parameter}"], shown[f"metrics.{metric}"].to_numpy(float))
    axes.set(xlabel=parameter, ylabel=metric)
    axes.legend(["one run", "mean over the seeds"])
    return figure


def _draw_effect(axes: Axes, column: pd.Series, values: np.ndarray) -> None:
    """Draw dots and means; a line joins the means of numbers, but not of categories or seeds."""
    scale = _Scale(column)
    axes.plot(scale.x, values, "o", color=BLUE, markersize=4, alpha=0.45, markeredgewidth=0)
    levels = np.unique(scale.x)
    means = [values[scale.x == level].mean() for level in levels]
    axes.plot(levels, means, "D" if scale.names or column.name == "seed" else "o-", color=ORANGE, markersize=5)
    if scale.names:
        step = -(-len(scale.names) // MAX_NAMES)
        labels = scale.names[::step]
        axes.set_xticks(range(0, len(scale.names), step), labels)
        axes.set_xlim(-0.5, len(scale.names) - 0.5)
        if sum(map(len, labels)) > 28 * axes.get_position().width * 3:
            axes.tick_params(axis="x", rotation=40)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
    elif scale.is_logarithmic:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=not (scale.x % 1).any()))


class _Scale:
    """Positions of the values of one key on an axis: sorted; words and lists stand at equal distances."""

    def __init__(self, column: pd.Series, is_metric: bool = False) -> None:
        numbers = pd.to_numeric(column, errors="coerce")
        self.names: list[str] = []
        self.is_logarithmic = False
        if numbers.isna().any() or (not is_metric and column.nunique() <= 2):
            names = sorted(set(column.astype(str)), key=_natural)
            self.names = [_shorten(name) for name in names]
            self.x = column.astype(str).map(names.index).to_numpy(float)
        else:
            self.x = numbers.to_numpy(float)
            self.is_logarithmic = not is_metric and self.x.min() > 0 and self.x.max() >= LOG_RATIO * self.x.min()
        values = np.log10(self.x) if self.is_logarithmic else self.x
        self.height = (values - values.min()) / (np.ptp(values) or 1.0)  # from 0 to 1

    def labels(self) -> list[tuple[float, str]]:
        """Return height and text of the labels, with room between them; the highest and the lowest always."""
        rows = np.unique(self.height, return_index=True)[1]
        if len(rows) > MAX_NAMES or (not self.names and len(rows) > 6):
            rows = np.array([np.argmin(np.abs(self.height - height)) for height in np.linspace(0, 1, 5)])
        shown: list[int] = [int(rows[0]), int(rows[-1])]
        for row in rows[1:-1]:
            if all(abs(self.height[row] - self.height[other]) > LABEL_GAP for other in shown):
                shown.append(int(row))
        return [(float(self.height[row]), self._text(row)) for row in dict.fromkeys(shown)]

    def _text(self, row: int) -> str:
        return self.names[int(self.x[row])] if self.names else f"{self.x[row]:.4g}"


def _natural(name: str) -> list[tuple[bool, float, str]]:
    """Return a key that sorts numbers inside a text by value: `0.1`, `2`, `10`, and `[8]` before `[16]`."""
    parts = re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", name)
    return [(True, float(part), "") if index % 2 else (False, 0.0, part) for index, part in enumerate(parts)]


def _shorten(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else f"{name[: LABEL_LENGTH - 1]}…"


def _two_lines(key: str) -> str:
    return key.replace(".", ".\n", 1)
