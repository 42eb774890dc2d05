"""Classes of pictures: `python -m twinnet.predict runs/fashion_cnn/model.keras image.png ...`.

The model is that of any experiment on images. config.yaml and scaling.json beside it, in its run's directory, say how
its data was read, and a picture is read likewise (see `twinnet.predict.pictures`).
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import yaml

from twinnet.core import config, rules
from twinnet.core.errors import ConfigError, DataError, TwinnetError, exit_on_error
from twinnet.core.metrics import Predict, class_probabilities, flip_tta
from twinnet.core.problem import TrainedNetwork
from twinnet.core.schema import Experiment, ImageData, KerasEngine, Task
from twinnet.predict import pictures
from twinnet.predict.pictures import Picture
from twinnet.training.dataset import scale

ENGINES = {"model.keras": "keras", "model.npz": "scratch"}  # a saved model, and the engine that reads it
BATCH = 256  # pictures that are read and predicted at once


@dataclass(frozen=True)
class Trained:
    """A trained model of images, and how its data was read: scaled as (X - mean) / scale, channel by channel."""

    file: Path
    experiment: Experiment
    data: ImageData
    mean: np.ndarray
    scale: np.ndarray

    @property
    def classes(self) -> list[str]:
        return self.data.classes or []

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.image_shape)

    @property
    def stand_in(self) -> bool:
        """Whether metrics.json, where the run left it, says that the data were synthetic."""
        metrics = self.file.parent / "metrics.json"
        return metrics.is_file() and _read(metrics, json.loads).get("data_source") == "synthetic"

    def inputs(self, images: Sequence[Picture]) -> np.ndarray:
        """What the network takes: (samples, height, width, channels) in the engine's dtype."""
        return scale(np.stack([image.pixels for image in images]), self.mean, self.scale, self._dtype)

    def network(self) -> Callable[[np.ndarray], np.ndarray]:
        """From `inputs` to probabilities, (samples, classes), float64. Raises DataError where the model is broken."""
        try:
            predict: Predict = self._load().predict
            output = predict(np.zeros((1, *self.shape), self._dtype))
        except TwinnetError:
            raise
        except Exception as error:  # a damaged file fails wherever its reader stumbles
            told = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{self.file}: expected a model as config.yaml describes it; received: {told}") from error
        units = rules.output_units(self.data.task, len(self.classes))
        if output.shape != (1, units):
            raise DataError(
                f"{self.file}: expected {units} outputs, for the classes in config.yaml; received {output.shape[-1]}"
            )
        if self.experiment.augmentation.flip_at_test:  # as training evaluates it
            predict = flip_tta(predict)
        return lambda X: class_probabilities(predict(X))

    @property
    def _dtype(self) -> str:
        return self.experiment.engine.dtype.value

    def _load(self) -> TrainedNetwork:
        engine = import_module(f"twinnet.engines.{ENGINES[self.file.name]}")
        if isinstance(self.experiment.engine, KerasEngine) and engine.backend.loaded() is None:
            engine.backend.load(self.experiment.engine)
        return engine.load(self.file)


def trained(path: Path) -> Trained:
    """The model in the file `path`, model.keras or model.npz, or in the directory of a run.

    Raises DataError or ConfigError where it is none, or none of images, or lacks the run's files beside it.
    """
    directory = path if path.is_dir() else path.parent
    if path != directory and (path.name not in ENGINES or not path.is_file()):
        found = "another name" if path.exists() else "no such file"
        raise DataError(f"{path}: expected {' or '.join(ENGINES)}, or the directory of a run; received {found}")
    experiment = config.experiment(_read(directory / "config.yaml", yaml.safe_load), sweep=True)
    if not isinstance(experiment.data, ImageData) or experiment.data.task is Task.regression:
        raise ConfigError(
            f"{directory}: expected a model that classifies images; received data.kind={experiment.data.kind} "
            f"data.task={experiment.data.task.value}"
        )
    if len(experiment.data.image_shape) != 3 or experiment.data.image_shape[-1] not in (1, 3):
        raise ConfigError(
            f"{directory}: expected a model of images of 1 or 3 channels; received data.image_shape="
            f"{experiment.data.image_shape}"
        )
    file = path if path != directory else directory / _saved_by(experiment)
    if not file.is_file():
        raise DataError(f"{file}: expected the model of a finished run; found none; train it again")
    return Trained(file, experiment, experiment.data, *_scaling(directory / "scaling.json", experiment.data))


def _saved_by(experiment: Experiment) -> str:
    return next(file for file, engine in ENGINES.items() if engine == experiment.engine.kind)


def _scaling(path: Path, data: ImageData) -> Iterator[np.ndarray]:
    """Mean and scale of each channel."""
    found, channels = _read(path, json.loads), data.image_shape[-1]
    for key in ("mean", "scale"):
        values = found.get(key)
        if not (isinstance(values, list) and [type(value) for value in values] == [float] * channels):
            raise DataError(f"{path}: expected a number for each channel in {key!r}; received {values}")
        yield np.array(values)


def _read(path: Path, parse: Callable[[str], object]) -> dict:
    try:
        found = parse(path.read_text())
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected the files of a run beside its model; found none") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected the file of a finished run; received: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected the file of a finished run; received {type(found).__name__}")
    return found


def text(path: Path, image: Picture, probabilities: dict[str, float], top: int, width: int = 0) -> str:
    """One line: the picture, its most probable classes, and whether it was negated."""
    likely = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
    told = ", ".join(f"{name} {probability:.2%}" for name, probability in likely)
    return f"{path!s:{width}}  {told}{'  (inverted)' if image.inverted else ''}"


def _json(path: Path, image: Picture, probabilities: dict[str, float]) -> str:
    best = max(probabilities, key=lambda name: probabilities[name])
    size = dict(zip(("width", "height"), image.size, strict=True))
    found = {"picture": str(path), "class": best, "probabilities": probabilities, "inverted": image.inverted}
    return json.dumps(found | size, ensure_ascii=False)


class _Pictures:
    """The pictures of a command line, a batch at a time; each that cannot be read is a line on stderr."""

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Picture]) -> None:
        self.paths, self.read, self.failed = paths, read, 0

    def __iter__(self) -> Iterator[list[tuple[Path, Picture]]]:
        for start in range(0, len(self.paths), BATCH):
            if batch := list(self._batch(self.paths[start : start + BATCH])):
                yield batch

    def _batch(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Picture]]:
        for path in paths:
            try:
                yield path, self.read(path)
            except DataError as error:
                self.failed += 1
                print(f"error: {path}: {' '.join(str(error).split())}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m twinnet.predict", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="model.keras or model.npz of a run on images, or the run's directory")
    parser.add_argument("pictures", type=Path, nargs="+", help="of any size and format, in grey or in colour")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="how many classes a line names (3)")
    parser.add_argument("--margin", type=int, metavar="PIXELS", help="free around the object (as in the data set)")
    parser.add_argument("--invert", action=argparse.BooleanOptionalAction, help="the default judges by the border")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a line of JSON for each picture, with all probabilities")
    form.add_argument("--request", action="store_true", help="no prediction: what to POST to `mlflow models serve`")
    return parser.parse_args()


def _frame(arguments: argparse.Namespace, model: Trained) -> Callable[[Path], Picture]:
    margin = model.data.margin if arguments.margin is None else arguments.margin
    largest = (min(model.shape[:2]) - 1) // 2
    if not 0 <= margin <= largest:
        raise ConfigError(f"--margin: expected 0 to {largest}; received {margin}")
    return lambda path: pictures.read(path, model.shape, margin, arguments.invert)


def main() -> None:
    arguments = _arguments()
    with exit_on_error():
        if arguments.top < 1:
            raise ConfigError(f"--top: expected at least 1; received {arguments.top}")
        model = trained(arguments.model)
        if model.stand_in:
            print("warning: the model was trained on synthetic stand-in data, not on the real ones", file=sys.stderr)
        some = _Pictures(arguments.pictures, _frame(arguments, model))
        if arguments.request:
            found = [image for batch in some for _, image in batch]
            if found:
                print(json.dumps({"inputs": model.inputs(found).tolist()}))
        else:
            _predict(model, some, arguments)
        if some.failed:
            sys.exit(1)


def _predict(model: Trained, some: _Pictures, arguments: argparse.Namespace) -> None:
    predict, width = model.network(), max(len(str(path)) for path in some.paths)
    for batch in some:
        for (path, image), row in zip(batch, predict(model.inputs([image for _, image in batch])), strict=True):
            probabilities = dict(zip(model.classes, row.tolist(), strict=True))
            if arguments.json:
                print(_json(path, image, probabilities), flush=True)
            else:
                print(text(path, image, probabilities, arguments.top, width), flush=True)


if __name__ == "__main__":
    main()
