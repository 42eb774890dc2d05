"""Figures of several runs of one data set, given best first; `colours` maps run names to colours."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from twinnet.compare.statistics import Calibration
from twinnet.core.history import History
from twinnet.figures.curves import MARKERS_TO, PALE, epoch_axis, majority_line, score_axis, score_name, visible_points
from twinnet.figures.style import GREY, PALETTE, new_figure, styled

PANELS = 5  # in a row, at most
LINES = ("-", "--", ":", "-.")  # curves on top of each other stay visible, and runs outnumber colours
FEW = 10  # samples in a bin of the calibration: its accuracy is uncertain by 30 points and more
Colours = Mapping[str, str]


def run_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each run, the same in every figure of these runs."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(sorted(names))}


@styled
def intervals(
    rows: pd.DataFrame, score: str, title: str, colours: Colours, notes: Sequence[str] = (), unit: str = ""
) -> Figure:
    """`score` of each run, in `unit`, with its interval; rows have experiment, low, high, majority and the score."""
    figure = new_figure(8, 1.5 + 0.4 * len(rows), title, notes)
    axes = figure.subplots()
    for place, row in enumerate(rows.to_dict("records")):
        value, reach = row[score], [[max(row[score] - row["low"], 0)], [max(row["high"] - row[score], 0)]]
        axes.errorbar(value, place, xerr=reach, fmt="o", color=colours[row["experiment"]], capsize=4)
        text = f"{value:.2%}" if score == "accuracy" else f"{value:.4g}"
        axes.annotate(text, (value, place), (0, 6), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(len(rows)), rows["experiment"])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel(f"{score_name(score, unit)}, with its {rows['confidence'].iloc[0]:.0%} interval")
    if score == "accuracy":
        majority_line(axes, rows["majority"].max(), axes.get_xlim(), axes.axvline)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), fontsize=9)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


@styled
def parameters(rows: pd.DataFrame, title: str, colours: Colours, notes: Sequence[str] = ()) -> Figure:
    """Accuracy with its interval against the number of trained parameters; rows are those of the leaderboard."""
    figure = new_figure(8, 5, title, notes)
    axes = figure.subplots()
    x = rows["parameters"]
    for row in rows.to_dict("records"):
        reach = [[max(row["accuracy"] - row["low"], 0)], [max(row["high"] - row["accuracy"], 0)]]
        colour = colours[row["experiment"]]
        axes.errorbar(row["parameters"], row["accuracy"], yerr=reach, fmt="o", color=colour, capsize=4)
    axes.set_xscale("log")
    axes.set_xlim(x.min() / 1.6, x.max() * 1.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.12)
    axes.set_xlabel("trained parameters (logarithmic)")
    axes.set_ylabel(f"accuracy with its {rows['confidence'].iloc[0]:.0%} interval")
    figure.draw_without_rendering()  # places the points
    _name_points(axes, rows)
    return figure


def _name_points(axes: Axes, rows: pd.DataFrame) -> None:
    """Name each run beside its point, clear of points, intervals and other names; equal runs share a label."""
    points = rows.groupby(["parameters", "accuracy", "low", "high"], sort=False)["experiment"].agg("\n".join)
    taken = [Bbox(axes.transData.transform([(x, low), (x, high)])).padded(6) for x, _, low, high in points.index]
    line = {"arrowstyle": "-", "color": GREY, "shrinkA": 0, "shrinkB": 5}
    for (x, y, _, _), names in points.items():
        label = axes.annotate(names, (x, y), (0, 0), textcoords="offset points", fontsize=9, arrowprops=line)
        label.set_in_layout(False)
        taken.append(_place(label, axes.bbox, taken))


def _place(label: Annotation, inside: Bbox, taken: Sequence[Bbox]) -> Bbox:
    """Move a label to the nearest free place around its point; return the box it covers, in pixels."""
    for distance, (right, up) in product(range(9, 200, 9), ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))):
        label.set_position((right * (9 if up else distance), up * distance))
        label.set(ha="left" if right > 0 else "right", va=("center", "bottom", "top")[up])
        label.get_window_extent()  # moves it there
        box = Text.get_window_extent(label)  # without its line
        if inside.count_contains(box.corners()) == 4 and box.count_overlaps(taken) == 0:
            break
    return box


@styled
def curves(
    histories: Mapping[str, History],
    score: str,
    title: str,
    colours: Colours | None = None,
    notes: Sequence[str] = (),
    majority: float | None = None,
    unit: str = "",
    degenerate: Sequence[str] = (),
) -> Figure:
    """Loss and `score` of the validation split over the epochs, all runs in the same axes.

    A run whose first epochs were not validated has its training samples behind, pale, from epoch 1 on. `majority` is
    the accuracy of the most frequent class alone, on the validation split; the losses of `degenerate` runs say nothing
    and are left out.
    """
    figure = new_figure(11, 4.4, title, notes)
    colours = colours or run_colours(histories)
    longest = max(history.epochs for history in histories.values())
    has_training = any(history.valid_epoch[0] > 1 for history in histories.values())
    for axes, key in zip(figure.subplots(1, 2), ("loss", score), strict=True):
        for index, (name, history) in enumerate(histories.items()):
            if key == "loss" and name in degenerate:
                continue
            arrays, line = history.arrays(), {"color": colours[name], "linestyle": LINES[index % len(LINES)]}
            if history.valid_epoch[0] > 1:
                axes.plot(*visible_points(arrays[f"train/{key}"]), **line, linewidth=1.2, alpha=PALE)
            axes.plot(
                history.valid_epoch,
                arrays[f"valid/{key}"],
                **line,
                linewidth=1.6 if index % 2 else 3,
                marker="o" if len(history.valid_epoch) <= MARKERS_TO else None,
                markersize=4,
                label=name,
            )
        axes.set_title(score_name(key, unit))
        epoch_axis(axes, longest)
        score_axis(axes, score, key, majority)
    if has_training:
        axes.plot([], [], color=GREY, linewidth=1.2, alpha=PALE, label="pale: training samples")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


@styled
def reliability(
    calibrations: Mapping[str, Calibration], title: str, colours: Colours, notes: Sequence[str] = ()
) -> Figure:
    """Accuracy against confidence, one panel a run; dots grow with the samples in the bin, hollow ones have FEW."""
    count = len(calibrations)
    if any((bins.samples < FEW).any() for bins in calibrations.values()):
        title += f"; hollow dots have fewer than {FEW} samples"
    columns = count if count <= PANELS else next((n for n in (5, 4, 3) if count % n == 0), PANELS - 1)
    rows = ceil(count / columns)
    figure = new_figure(max(3.1 * columns, 5), 0.5 + 3.4 * rows, title, notes)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    for axes, (name, bins) in zip(grid.flat, calibrations.items(), strict=False):
        share, few = bins.samples / bins.samples.sum(), bins.samples < FEW
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.plot(bins.confidence, bins.accuracy, color=colours[name], linewidth=1.2)
        for chosen, face in ((~few, colours[name]), (few, "white")):
            axes.scatter(
                bins.confidence[chosen],
                bins.accuracy[chosen],
                s=12 + 260 * share[chosen],
                facecolor=face,
                edgecolor=colours[name],
                alpha=0.75,
                zorder=3,
            )
        axes.set_title(f"{name}\nexpected error {bins.error:.1%}", fontsize=9)
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), aspect="equal", xlabel="confidence")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
            axis.set_ticks([0, 0.5, 1])
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    return figure


@styled
def class_scores(rows: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> Figure:
    """Precision, recall and F1 of each class and run; rows have experiment, class and the three scores."""
    names, classes = list(dict.fromkeys(rows["experiment"])), list(dict.fromkeys(rows["class"]))
    upright = len(classes) <= 4
    width = 3.4 + 0.75 * len(classes) * (3 if upright else 1)
    height = 0.9 + 0.42 * len(names)
    figure = new_figure(max(width, 6), 1.4 + (height if upright else 3 * height), title, notes)
    rows_columns = (1, 3) if upright else (3, 1)
    grid = figure.subplots(*rows_columns, squeeze=False, sharex=True, sharey=True)
    for axes, score in zip(grid.flat, ("precision", "recall", "f1"), strict=True):
        values = rows.pivot(index="experiment", columns="class", values=score).loc[names, classes].to_numpy()
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        _write_cells(axes, values)
        axes.set_title("F1" if score == "f1" else score)
        axes.set_yticks(range(len(names)), names)
        axes.grid(False)
        if upright:
            axes.set_xticks(range(len(classes)), classes)
        else:
            axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
    figure.colorbar(image, ax=grid, shrink=0.6, format="{x:.0%}")
    return figure


def _write_cells(axes: Axes, values: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            f"{value:.0%}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 0.55 else "black",
        )
