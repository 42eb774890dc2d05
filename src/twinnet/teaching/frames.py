"""The decision boundary of two features during a training: panels side by side, or an animation."""

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinnet.core.metrics import class_probabilities
from twinnet.core.splits import Splits
from twinnet.figures.classes import decision_boundary, probability_field
from twinnet.figures.style import BLUE, CLASS_0_TO_1, ORANGE, new_figure, styled

GRID = 120  # points along each axis of the probability field
COLUMNS = 4
Predict = Callable[[np.ndarray], np.ndarray]


@styled
def sample_plane(
    splits: Splits, classes: Sequence[str], axis_names: Sequence[str], title: str, notes: Sequence[str] = ()
) -> Figure:
    """The training samples of two classes over their two features, in the features' own units."""
    figure = new_figure(7, 4.8, title, notes)
    axes = figure.subplots()
    _samples(axes, splits, classes, size=26)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.legend()
    return figure


def classifier_boundary(
    classifier: Any,
    X: np.ndarray,
    y: np.ndarray,
    axis_names: Sequence[str] = ("x1", "x2"),
    title: str = "decision boundary",
    classes: Sequence[str] | None = None,
) -> Figure:
    """The plane of two features as any classifier with `predict` divides it, and the samples on it.

    `X` is (samples, 2), `y` (samples,). Probabilities are shaded for a classifier with `predict_proba` and for a
    network whose `predict` returns (samples, units); `classes` renames the values of `y`, in their order.
    """
    values, labels = np.unique(y, return_inverse=True)

    def probabilities(points: np.ndarray) -> np.ndarray:
        output = np.asarray(getattr(classifier, "predict_proba", classifier.predict)(points))
        if output.ndim == 2:
            return class_probabilities(output)
        return (np.asarray(classifier.predict(points))[:, None] == values).astype(float)  # labels

    splits = Splits(X, labels, X[:0], labels[:0], None, None, "", "", np.zeros(2), np.ones(2))
    return decision_boundary(splits, probabilities, classes or [str(value) for value in values], axis_names, title)


@styled
def boundary_frames(
    splits: Splits,
    predictions: Mapping[int, Predict],
    classes: Sequence[str],
    axis_names: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """A panel for each number of epochs: the probability of class 1 over two features, and the training samples.

    `predictions` maps epochs to a function from scaled features (samples, 2) to activations of the output layer.
    """
    rows = ceil(len(predictions) / COLUMNS)
    figure = new_figure(11, 0.9 + 2.6 * rows, title, notes)
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(predictions) :]:
        axes.set_axis_off()
    for axes, (epochs, predict) in zip(grid.flat, predictions.items(), strict=False):
        _frame(axes, splits, epochs, predict, classes)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    grid.flat[0].legend(handles, labels, fontsize=8, loc="upper right", frameon=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(axis_names[1])
    for axes in grid.flat[max(len(predictions) - COLUMNS, 0) : len(predictions)]:
        axes.set_xlabel(axis_names[0])
        axes.tick_params(labelbottom=True)
    return figure


@styled
def boundary_animation(
    splits: Splits,
    predictions: Mapping[int, Predict],
    classes: Sequence[str],
    axis_names: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
    frames_a_second: int = 3,
) -> str:
    """Return the same as a looping animation: an HTML img element with an animated GIF."""
    figure = new_figure(6, 4.4, title, notes)
    axes = figure.subplots()

    def draw(epochs: int) -> list[Axes]:
        axes.clear()
        _frame(axes, splits, epochs, predictions[epochs], classes)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.legend(fontsize=8, loc="upper right", frameon=True)
        return [axes]

    counts = list(predictions)
    pause = [counts[-1]] * (2 * frames_a_second)  # the last frame stays for two seconds
    animation = FuncAnimation(figure, draw, frames=[*counts, *pause], blit=False, cache_frame_data=False)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "boundary.gif"
        animation.save(file, PillowWriter(fps=frames_a_second), dpi=72)
        data = base64.b64encode(file.read_bytes()).decode()
    return f'<img src="data:image/gif;base64,{data}" alt="{escape(title)}">'


def _frame(axes: Axes, splits: Splits, epochs: int, predict: Predict, classes: Sequence[str]) -> None:
    X = splits.X_train * splits.scale + splits.mean
    first, second, probabilities = probability_field(X, splits, predict, GRID)
    field = probabilities[..., 1]
    axes.grid(False)
    axes.pcolormesh(first, second, field, cmap=CLASS_0_TO_1, vmin=0, vmax=1, alpha=0.45, rasterized=True)
    if field.min() < 0.5 < field.max():
        axes.contour(first, second, field, levels=[0.5], colors="black", linewidths=2)
    _samples(axes, splits, classes, size=9)
    right = np.mean((class_probabilities(predict(splits.X_train))[:, 1] > 0.5) == splits.y_train)
    axes.set_title(f"after {epochs:,} epoch{'' if epochs == 1 else 's'}: {right:.0%} right", fontsize=9)
    axes.set(xlim=first[[0, -1]], ylim=second[[0, -1]])


def _samples(axes: Axes, splits: Splits, classes: Sequence[str], size: float) -> None:
    X = splits.X_train * splits.scale + splits.mean
    for label, colour in enumerate((BLUE, ORANGE)):
        chosen = splits.y_train == label
        axes.scatter(
            X[chosen, 0], X[chosen, 1], s=size, color=colour, edgecolor="white", linewidth=0.4, label=classes[label]
        )
