"""Curves of one training over its epochs."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from twinnet.core.history import History
from twinnet.figures.style import BLUE, GREY, new_figure, styled

LOG_FROM = 1000  # epochs: longer runs fall fast and then slowly, which only a logarithmic axis shows
MAJORITY = "the most frequent class alone"
PALE = 0.4  # opacity of what was measured on training samples
SMALL = 1e-3  # a loss that is never larger says nothing but rounding
MARKERS_TO = 30  # epochs: shorter runs show each epoch as a point
PIECES = 2000  # of a long curve, each about the width of a line


@styled
def learning_curves(
    history: History,
    title: str,
    notes: Sequence[str] = (),
    colour: str = BLUE,
    unit: str = "",
    majority: float | None = None,
) -> Figure:
    """Loss and metric over the epochs, training (pale) and validation split in the colour of the run.

    `unit` is that of a mean absolute error, `majority` the accuracy of the most frequent class alone on the validation
    split. A long training is validated every so many epochs, which the legend says.
    """
    arrays = history.arrays()
    every = int(arrays["valid_epoch"][0])
    validation = f"validation, every {every:,} epochs" if every > 1 else "validation"
    figure = new_figure(10, 4, title, notes)
    for axes, key in zip(figure.subplots(1, 2), ("loss", history.metric), strict=True):
        marker = "o" if history.epochs <= MARKERS_TO else None
        epochs, train = visible_points(arrays[f"train/{key}"])
        axes.plot(epochs, train, color=colour, alpha=PALE, label="training", marker=marker, markersize=4)
        axes.plot(
            arrays["valid_epoch"],
            arrays[f"valid/{key}"],
            color=colour,
            label=validation,
            linestyle="--",
            marker=marker,
            markersize=4,
        )
        axes.set_title(score_name(key, unit))
        epoch_axis(axes, history.epochs)
        score_axis(axes, history.metric, key, majority)
        axes.legend()
    return figure


def visible_points(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs and values of a curve: all of a short one, else the lowest and highest value of each piece."""
    if len(values) <= PIECES:
        return np.arange(1, len(values) + 1), values
    starts = np.unique(np.geomspace(1, len(values), PIECES).astype(int)) - 1
    extremes = [extreme.reduceat(values, starts) for extreme in (np.minimum, np.maximum)]
    return np.repeat(starts + 1, 2), np.stack(extremes, axis=1).ravel()


def score_name(key: str, unit: str = "") -> str:
    """Return a metric as the figures write it: mean absolute error in points per game."""
    return f"mean absolute error{f' in {unit}' if unit else ''}" if key == "mae" else key


def score_axis(axes: Axes, metric: str, key: str, majority: float | None) -> None:
    """Scale of the loss or the metric: errors of a regression fall over decades, accuracies are percentages."""
    if metric == "mae":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{axes.get_title()} (logarithmic)")
    elif key == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        majority_line(axes, majority, axes.get_ylim(), axes.axhline)
    elif axes.get_ylim()[1] < SMALL:
        axes.set_ylim(-0.05, 0.05)


def majority_line(axes: Axes, majority: float | None, limits: tuple[float, float], draw: Callable[..., object]) -> None:
    """Draw the accuracy of the most frequent class alone, unless it would squeeze what is drawn within `limits`."""
    low, high = limits
    if majority is not None and majority > low - (high - low) / 2:
        draw(majority, color=GREY, linestyle="--", linewidth=1, label=MAJORITY)


def epoch_axis(axes: Axes, epochs: int) -> None:
    """Scale and ticks of the epochs, counted from 1."""
    if epochs > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlabel("epoch (logarithmic)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_locator(NullLocator())  # unlabelled, and half the time of drawing
    else:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
