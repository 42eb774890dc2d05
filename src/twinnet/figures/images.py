"""Grids of pictures. Images are (samples, height, width) or (samples, height, width, channels).

One channel is grey, three are a colour.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinnet.core.metrics import class_probabilities, count_confusions, predicted_classes
from twinnet.figures.style import BLACK, RIGHT, WRONG, new_figure, styled

ROWS, COLUMNS = 3, 5
PAIRS = 4  # of classes, in the picture of the hardest ones
CAPTION, IMAGE = 0.27, 0.87  # of a cell 1 wide: the height of two lines, and the longer side of the image below them
CELL = CAPTION + IMAGE + 0.05  # high
WORDS = 1.7  # cells, the width of the text beside a pair


@styled
def image_grid(
    images: np.ndarray,
    captions: Sequence[str],
    title: str,
    colours: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """The first 15 images, three rows of five, each under its caption."""
    figure = new_figure(8.6, 6.2, title, notes)
    low, high = float(images.min()), float(images.max())
    shown = list(zip(images, captions, colours or [BLACK] * len(captions), strict=True))[: ROWS * COLUMNS]
    axes = _cells(figure, ROWS, COLUMNS)
    for number, (image, caption, colour) in enumerate(shown):
        _show(axes, *divmod(number, COLUMNS), image, low, high, caption, colour)
    return figure


def _cells(figure: Figure, rows: int, columns: float) -> Axes:
    """Add empty cells in one axes: an axes for each image would take twice as long."""
    axes = figure.add_subplot(xlim=(0, columns), ylim=(rows * CELL, 0))
    axes.set_axis_off()
    return axes


def _show(
    axes: Axes, row: int, column: float, image: np.ndarray, low: float, high: float, caption: str, colour: str
) -> None:
    """Show one image in a cell under its caption; `low` is black, `high` white."""
    height, width = np.divide(image.shape[:2], max(image.shape[:2])) * IMAGE
    left, top = column + (1 - width) / 2, row * CELL + CAPTION
    extent = (left, left + width, top + height, top)
    if image.ndim == 2 or image.shape[-1] == 1:
        axes.imshow(image.reshape(image.shape[:2]), cmap="gray", vmin=low, vmax=high, extent=extent)
    else:
        axes.imshow((image - low) / max(high - low, 1e-12), extent=extent)
    axes.text(column + 0.5, top - 0.02, caption, color=colour, fontsize=9, ha="center", va="bottom")


def sample_grid(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    title: str = "samples",
    notes: Sequence[str] = (),
) -> Figure:
    """The first 15 images with the names of their classes; `labels` is (samples,)."""
    images = images[: ROWS * COLUMNS]
    return image_grid(images, [classes[label] for label in labels[: ROWS * COLUMNS]], title, notes=notes)


def prediction_grid(
    images: np.ndarray,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    classes: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The first 15 images titled "predicted (true)", green if right, red if wrong."""
    count = ROWS * COLUMNS
    pairs = list(zip(y_pred[:count], y_true[:count], strict=True))
    return image_grid(
        images[:count],
        [f"{classes[predicted]}\n({classes[true]})" for predicted, true in pairs],
        title,
        [RIGHT if predicted == true else WRONG for predicted, true in pairs],
        notes,
    )


def surest_mistakes(
    y_true: np.ndarray, y_prob: np.ndarray, classes: Sequence[str], chosen: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """Wrong predictions, the surest first: their indices, and captions "predicted, confidence (true)".

    `y_true` (samples,), `y_prob` (samples, units); `chosen` (samples,) selects samples.
    """
    probabilities = class_probabilities(y_prob)
    y_pred, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero((y_pred != y_true) & (True if chosen is None else chosen))
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return surest, [f"{classes[y_pred[i]]}, {_percent(confidence[i])}\n({classes[y_true[i]]})" for i in surest]


def mistake_grid(
    images: np.ndarray,
    y_true: np.ndarray,
    y_prob: np.ndarray,
    classes: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The wrong predictions that the network was surest of, each titled "predicted, confidence (true)"."""
    surest, captions = surest_mistakes(y_true, y_prob, classes)
    surest, captions = surest[: ROWS * COLUMNS], captions[: ROWS * COLUMNS]
    return image_grid(images[surest], captions, title, [WRONG] * len(surest), notes)


def _percent(confidence: float) -> str:
    """Rounded down, so that 99.97% does not read as certainty."""
    return f"{np.floor(confidence * 1000) / 10:.1f}%"


@styled
def hardest_pairs(
    images: np.ndarray,
    y_true: np.ndarray,
    y_prob: np.ndarray,
    classes: Sequence[str],
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The pairs of classes that the network confuses most, and their surest mistakes, a row for each pair.

    There must be a mistake; `y_true` is (samples,), `y_prob` (samples, units).
    """
    y_pred = predicted_classes(y_prob)
    counts = count_confusions(y_true, y_pred, len(classes))
    first, second = np.triu_indices(len(classes), k=1)
    both = (counts + counts.T)[first, second]
    hardest = [index for index in np.argsort(-both, kind="stable")[:PAIRS] if both[index]]
    low, high = float(images.min()), float(images.max())

    figure = new_figure(9.6, 0.4 + 1.75 * len(hardest), title, notes)
    axes = _cells(figure, len(hardest), WORDS + COLUMNS)
    for row, index in enumerate(hardest):
        pair = first[index], second[index]
        one, other = (classes[label] for label in pair)
        axes.text(0, row * CELL + CAPTION, f"{one}\n{other}", fontweight="bold", va="top")
        lines = [f"{counts[pair]:,} {one} as {other}", f"{counts[pair[::-1]]:,} {other} as {one}"]
        total = f"{both[index]:,} mistake{'s' if both[index] > 1 else ''}:"
        axes.text(0, row * CELL + CAPTION + 0.35, "\n".join([total, *lines]), fontsize=9, va="top")
        surest, captions = surest_mistakes(y_true, y_prob, classes, np.isin(y_true, pair) & np.isin(y_pred, pair))
        for column, (sample, caption) in enumerate(list(zip(surest, captions, strict=True))[:COLUMNS]):
            _show(axes, row, WORDS + column, images[sample], low, high, caption, WRONG)
    return figure
