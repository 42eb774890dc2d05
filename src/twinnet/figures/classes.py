"""Figures of predictions: confusion matrix, decision boundary, residuals."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twinnet.core.metrics import class_probabilities, count_confusions
from twinnet.core.splits import Splits
from twinnet.figures.style import BLUE, CLASS_0_TO_1, GREY, PALETTE, new_figure, styled

GRID = 300  # points along each axis of the probability field
MARKERS = {"training": "o", "validation": "^", "test": "s"}


@styled
def confusion_matrix(
    y_true: np.ndarray, y_pred: np.ndarray, classes: Sequence[str], title: str, notes: Sequence[str] = ()
) -> Figure:
    """Counts of each true and predicted class, shaded by their share of the true class."""
    counts = count_confusions(y_true, y_pred, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size, many = 2.6 + 0.72 * len(classes), len(classes) > 4
    figure = new_figure(max(size + 0.8, 6), size - 0.4, title, notes)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            _cell_text(int(counts[row, column]), share),
            ha="center",
            va="center",
            fontsize=8 if many else 10,
            color="white" if share > 0.55 else "#B0B0B0" if counts[row, column] == 0 else "black",
        )
    axes.set_xticks(range(len(classes)), classes, rotation=40 if many else 0, ha="right" if many else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.8, format="{x:.0%}", label="share of the true class")
    return figure


def _cell_text(count: int, share: float) -> str:
    return f"{count:,}\n{f'{share:.0%}' if share > 0.005 else '<1%'}" if count else "0"


@styled
def decision_boundary(
    splits: Splits,
    predict: Callable[[np.ndarray], np.ndarray],
    classes: Sequence[str],
    axis_names: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The predicted probability over the plane of two features, and the samples on it.

    The axes are in the features' own units; `predict` takes them scaled as the splits are.
    """
    sides = _sides(splits)
    first, second, field = probability_field(np.vstack([X for X, _ in sides.values()]), splits, predict, GRID)

    figure = new_figure(8.6, 6, title, notes)
    axes = figure.subplots()
    axes.grid(False)
    has_line = _field(figure, axes, first, second, field, classes)
    for label, colour in enumerate(_class_colours(len(classes))):
        for side, (X, y) in sides.items():
            axes.scatter(
                X[y == label, 0],
                X[y == label, 1],
                s=26 if side == "training" else 34,
                marker=MARKERS[side],
                color=colour,
                edgecolor="white" if side == "training" else "black",
                linewidth=0.6 if side == "training" else 0.9,
                label=f"{classes[label]} ({side})",
            )
    handles, _ = axes.get_legend_handles_labels()
    if has_line:
        handles.append(Line2D([], [], color="black", label="the boundary" if len(classes) > 2 else "probability 0.5"))
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(len(classes) + has_line, 4), fontsize=9
    )
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set(xlim=first[[0, -1]], ylim=second[[0, -1]])
    return figure


def probability_field(
    X: np.ndarray, splits: Splits, predict: Callable[[np.ndarray], np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two axes of `size` points around X (samples, 2), and the probabilities there, (size, size, classes).

    X and the axes are in the features' own units; `predict` takes them scaled as the splits are.
    """
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.04 * np.where(high > low, high - low, 1)
    first, second = (np.linspace(low[i] - margin[i], high[i] + margin[i], size) for i in (0, 1))
    points = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    scaled = ((points - splits.mean) / splits.scale).astype(splits.X_train.dtype)
    return first, second, class_probabilities(predict(scaled)).reshape(size, size, -1)


def _sides(splits: Splits) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return X in original units and y of each split."""
    sides = {"training": (splits.X_train, splits.y_train), "validation": (splits.X_valid, splits.y_valid)}
    if splits.X_test is not None and splits.y_test is not None:
        sides["test"] = (splits.X_test, splits.y_test)
    return {name: (X * splits.scale + splits.mean, y) for name, (X, y) in sides.items() if len(y)}


def _field(
    figure: Figure, axes: Axes, first: np.ndarray, second: np.ndarray, field: np.ndarray, classes: Sequence[str]
) -> bool:
    """Shade the plane; return whether a boundary runs through it."""
    winners = field.argmax(axis=-1)
    if len(classes) == 2:
        image = axes.pcolormesh(first, second, field[..., 1], cmap=CLASS_0_TO_1, vmin=0, vmax=1, alpha=0.45)
        image.set_rasterized(True)
        figure.colorbar(image, ax=axes, label=f"probability of {classes[1]}", shrink=0.9)
    else:
        colours = _class_colours(len(classes))
        axes.contourf(first, second, winners, levels=np.arange(len(classes) + 1) - 0.5, colors=colours, alpha=0.25)
    crossed = len(np.unique(winners)) > 1
    if crossed and len(classes) == 2:
        axes.contour(first, second, field[..., 1], levels=[0.5], colors="black", linewidths=2)
    elif crossed:
        axes.contour(first, second, winners, levels=np.arange(len(classes) - 1) + 0.5, colors="black", linewidths=1)
    return crossed


def _class_colours(classes: int) -> list[str]:
    return [PALETTE[label % len(PALETTE)] for label in range(classes)]


@styled
def residuals(
    y_true: np.ndarray,
    values: np.ndarray,
    title: str,
    notes: Sequence[str] = (),
    unit: str = "value",
    colour: str = BLUE,
) -> Figure:
    """Predicted against true values, (samples,) each in `unit`, and the distribution of the differences."""
    figure = new_figure(10, 4.4, title, notes)
    left, right = figure.subplots(1, 2)
    left.scatter(y_true, values, s=18, color=colour, alpha=0.6, edgecolor="none")
    ends = [min(y_true.min(), values.min()), max(y_true.max(), values.max())]
    left.plot(ends, ends, color=GREY, linestyle="--", label="predicted = true")
    left.set(xlabel=f"true {unit}", ylabel=f"predicted {unit}")
    left.legend()
    right.hist(values - y_true, bins="auto", color=colour, edgecolor="white")
    right.axvline(0, color=GREY, linestyle="--")
    right.set(xlabel=f"predicted less true {unit}", ylabel="samples")
    return figure
