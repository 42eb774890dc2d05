"""Grids of pictures. Images are (samples, height, width, channels), one channel (grey) or three (colour)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from twinnet.figures.style import BLACK, RIGHT, WRONG, new_figure, styled

ROWS, COLUMNS = 3, 5


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
    panels = figure.subplots(ROWS, COLUMNS).flat
    for axes in panels:
        axes.set_axis_off()
    for axes, (image, caption, colour) in zip(figure.axes, shown, strict=False):
        if image.shape[-1] == 1:
            axes.imshow(image[..., 0], cmap="gray", vmin=low, vmax=high)
        else:
            axes.imshow((image - low) / max(high - low, 1e-12))
        axes.set_title(caption, color=colour, fontsize=9)
    return figure


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
    """The first 15 images titled "predicted (true)", in green where that is right and in red where it is wrong."""
    count = ROWS * COLUMNS
    pairs = list(zip(y_pred[:count], y_true[:count], strict=True))
    return image_grid(
        images[:count],
        [f"{classes[predicted]}\n({classes[true]})" for predicted, true in pairs],
        title,
        [RIGHT if predicted == true else WRONG for predicted, true in pairs],
        notes,
    )
