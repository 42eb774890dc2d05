"""A trained network of images that classifies pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twinnet.core import engine
from twinnet.core.augmentation import average_views
from twinnet.core.errors import ConfigError, DataError, TwinnetError, one_line_text
from twinnet.core.metrics import Predict, class_probabilities
from twinnet.core.network import output_units
from twinnet.core.schema import ImageData, Task
from twinnet.predict.pictures import InputImage
from twinnet.training.dataset import scale
from twinnet.training.run import METRICS, MODELS, Run


class ImageClassifier:
    """The network of a run on images; of the run's files it needs the model, config.yaml and scaling.json alone."""

    def __init__(self, run: Run, file: Path, data: ImageData) -> None:
        self.file, self.data = file, data
        self.experiment = run.experiment
        self.is_synthetic = (run.directory / METRICS).exists() and run.is_synthetic
        self._mean, self._scale = run.scaling

    @classmethod
    def read(cls, path: Path) -> "ImageClassifier":
        """Return the classifier in the file `path`, model.keras or model.npz, or in the directory of a run.

        Raises DataError or ConfigError if there is none, it is not one of images, or the run's files are missing.
        """
        directory = path if path.is_dir() else path.parent
        if path != directory and (path.name not in MODELS.values() or not path.is_file()):
            found = "another name" if path.exists() else "no such file"
            raise DataError(f"{path}: expected {' or '.join(MODELS.values())}, or a run's directory; received {found}")
        run = Run(directory)
        data = run.experiment.data
        if not isinstance(data, ImageData) or data.task is Task.regression:
            raise ConfigError(
                f"{directory}: expected a model that classifies images; received data.kind={data.kind} "
                f"data.task={data.task}"
            )
        if len(data.image_shape) != 3 or data.image_shape[-1] not in (1, 3):
            raise ConfigError(
                f"{directory}: expected a model of images of 1 or 3 channels; received data.image_shape="
                f"{data.image_shape}"
            )
        return cls(run, path if path != directory else run.model, data)

    @property
    def classes(self) -> list[str]:
        return self.data.classes or []

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.image_shape)

    def inputs(self, images: Sequence[InputImage]) -> np.ndarray:
        """Return what the network takes: (samples, height, width, channels) in the engine's dtype."""
        pixels = np.stack([image.pixels for image in images])
        return scale(pixels, self._mean, self._scale, self.experiment.engine.dtype)

    def network(self) -> Predict:
        """Load the network: from `inputs` to probabilities, (samples, classes), float64.

        Raises DataError if the model is damaged or does not fit its config.yaml.
        """
        try:
            predict: Predict = engine.load(self.experiment.engine, self.file).predict
            output = predict(np.zeros((1, *self.shape), self.experiment.engine.dtype))
        except TwinnetError:
            raise
        except Exception as error:  # a damaged file fails wherever its reader stumbles
            reason = one_line_text(error)
            raise DataError(f"{self.file}: expected a model as config.yaml describes it; received {reason}") from error
        units = output_units(self.data.task, len(self.classes))
        if output.shape != (1, units):
            raise DataError(
                f"{self.file}: expected {units} outputs, for the classes in config.yaml; received {output.shape[-1]}"
            )
        averaged = average_views(predict, self.experiment.augmentation)
        return lambda X: class_probabilities(averaged(X))
