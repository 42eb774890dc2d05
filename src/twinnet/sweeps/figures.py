"""Pictures of a sweep: all swept keys side by side, and the effect of each one alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinnet.figures.style import BLACK, BLUE, ORANGE, new_figure, save, styled
from twinnet.sweeps import job

SHOWN = 12  # swept keys; more do not fit on a page
DECADES = 20.0  # a key whose values span more than this factor is drawn on a logarithmic axis
MAX_TICKS = 12


def draw(table: pd.DataFrame, swept: Sequence[str], objective: str, folder: Path) -> list[Path]:
    """Write parallel_coordinates.png and effects.png; none where nothing was swept or fewer than two jobs finished."""
    done = table[table["status"].isin(job.DONE)]
    if objective in done:
        done = done[np.isfinite(done[objective].astype(float))]
    if len(done) < 2 or not swept or objective not in done:
        return []
    keys = list(swept)[:SHOWN]
    return [
        save(parallel_coordinates(done, keys, objective), folder / "parallel_coordinates.png"),
        save(effects(done, keys, objective), folder / "effects.png"),
    ]


@styled
def parallel_coordinates(done: pd.DataFrame, keys: Sequence[str], objective: str) -> Figure:
    """A line for each job through its values, coloured by the objective; the best one black."""
    figure = new_figure(2.2 + 1.7 * len(keys), 4.4, f"{len(done)} jobs: {objective} by what was swept")
    axes = figure.add_subplot()
    values = done[objective].to_numpy(float)
    positions = [_Scale(done[key]) for key in keys] + [_Scale(done[objective], numbers=True)]
    lines = np.stack([scale.unit for scale in positions], axis=1)
    best_last = np.argsort(values if objective.endswith("accuracy") else -values)
    norm = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1)
    ramp = _ramp()
    for row in best_last:
        best = row == best_last[-1]
        axes.plot(
            lines[row],
            color=BLACK if best else ramp(norm(values[row])),
            linewidth=2.2 if best else 1.0,
            alpha=1.0 if best else 0.65,
        )
    for place, scale in enumerate(positions):
        axes.axvline(place, color="#999999", linewidth=0.8, zorder=0)
        for height, text in scale.ticks():
            axes.text(place + 0.02, height, text, fontsize=8, va="center",
                      bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    axes.set_xticks(range(len(positions)), [*map(_short, keys), objective])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(-0.15, len(positions) - 0.55)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


@styled
def effects(done: pd.DataFrame, keys: Sequence[str], objective: str) -> Figure:
    """A panel for each key: every job as a dot over its value, and the mean at each value."""
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    figure = new_figure(3.4 * columns + 0.4, 2.9 * rows, f"{objective} by each key alone: jobs, and their mean")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for axes, key in zip(panels, keys, strict=False):
        _effect(axes, done, key, objective)
    for axes in panels[len(keys) :]:
        axes.remove()
    for axes in panels[: len(keys) : columns]:
        axes.set_ylabel(objective)
    return figure


def _effect(axes: Axes, done: pd.DataFrame, key: str, objective: str) -> None:
    scale = _Scale(done[key])
    values = done[objective].to_numpy(float)
    axes.plot(scale.x, values, "o", color=BLUE, markersize=4, alpha=0.45, markeredgewidth=0)
    levels = np.unique(scale.x)
    axes.plot(levels, [values[scale.x == level].mean() for level in levels], "o-", color=ORANGE, markersize=5)
    if scale.logarithmic:
        axes.set_xscale("log")
    elif scale.names:
        axes.set_xticks(range(len(scale.names)), scale.names)
        if sum(map(len, scale.names)) > 28:
            axes.tick_params(axis="x", rotation=30)
    elif not (scale.x % 1).any():
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(_short(key))


class _Scale:
    """Where the values of one key lie on an axis; words, lists and few whole numbers stand at equal distances."""

    def __init__(self, column: pd.Series, numbers: bool = False) -> None:
        numeric = pd.to_numeric(column, errors="coerce")
        self.names: list[str] = []
        self.logarithmic = False
        if numeric.isna().any() or (not numbers and column.nunique() <= 2):
            self.names = [str(name) for name in dict.fromkeys(column)]
            self.x = column.astype(str).map({name: place for place, name in enumerate(self.names)}).to_numpy(float)
        else:
            self.x = numeric.to_numpy(float)
            self.logarithmic = not numbers and self.x.min() > 0 and self.x.max() / self.x.min() > DECADES
        self.values = np.log10(self.x) if self.logarithmic else self.x
        span = np.ptp(self.values) or 1.0
        self.unit = (self.values - self.values.min()) / span

    def ticks(self) -> list[tuple[float, str]]:
        """Height from 0 to 1, and text."""
        levels, first = np.unique(self.unit, return_index=True)
        places = [int(place) for place in first]
        if len(levels) > MAX_TICKS or (not self.names and len(levels) > 6):
            places = [int(np.argmin(np.abs(self.unit - height))) for height in np.linspace(0, 1, 5)]
        return [
            (float(self.unit[place]), self.names[int(self.x[place])] if self.names else f"{self.x[place]:.4g}")
            for place in dict.fromkeys(places)
        ]


def _ramp() -> Colormap:
    return LinearSegmentedColormap.from_list("objective", [BLUE, "#B8B8B8", ORANGE])


def _short(key: str) -> str:
    """`optimizer.learning_rate` in two lines."""
    return key.replace(".", ".\n", 1)
