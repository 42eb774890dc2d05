"""The images that a run predicted, for pictures of its mistakes."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.schema import ImageData, Scaling
from twinnet.training.dataset import load_splits
from twinnet.training.run import Run

log = logging.getLogger(__name__)


class PredictedImages:
    """Finds them in data/processed/ under `root`; runs on the same images share one reading."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._last: tuple[ImageData, int | None] | None = None
        self._images = self._labels = np.empty(0)

    def __call__(self, run: Run) -> np.ndarray | None:
        """(samples, height, width, channels) in the order of the run's predictions, pixels 0 to 255.

        None for tables, and, with a line in the log, where the images are missing or are not those it predicted.
        """
        if not isinstance(run.experiment.data, ImageData):
            return None
        try:
            self._read(replace(run.experiment.data, scaling=Scaling.none), run.experiment.limits.samples)
        except DataError as error:
            log.warning("%s: its mistakes are not drawn: %s", run.name, error)
            return None
        if not np.array_equal(self._labels, run.y_true):
            log.warning(
                "%s: its mistakes are not drawn: it predicted other images than data/processed/%s/ holds; "
                "run `dvc repro`", run.name, run.experiment.data.name,
            )  # fmt: skip
            return None
        return self._images

    def _read(self, data: ImageData, samples: int | None) -> None:
        if self._last != (data, samples):
            splits = load_splits(data, root=self.root, dtype="uint8", samples=samples)
            _, self._images, self._labels = splits.evaluation
            self._last = (data, samples)
