"""Classes of pictures: `python -m twinnet.predict runs/fashion_cnn/model.keras image.png ...`.

The model is that of any experiment on images, with config.yaml and scaling.json beside it in its run's directory.
`twinnet.predict.pictures` says how a picture becomes an input.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from twinnet.core.errors import ConfigError, DataError, exit_on_error, one_line_text
from twinnet.core.metrics import Predict
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.predict import pictures
from twinnet.predict.classifier import ImageClassifier
from twinnet.predict.pictures import InputImage

BATCH = 256  # pictures that are read and predicted at once
Read = Callable[[Path], InputImage]


def text(path: Path, image: InputImage, probabilities: dict[str, float], top: int, width: int = 0) -> str:
    """Return one line: the picture, its most probable classes, and whether it was inverted."""
    likely = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
    classes = ", ".join(f"{name} {probability:.2%}" for name, probability in likely)
    return f"{path!s:{width}}  {classes}{'  (inverted)' if image.is_inverted else ''}"


def _json(path: Path, image: InputImage, probabilities: dict[str, float]) -> str:
    best = max(probabilities, key=lambda name: probabilities[name])
    size = dict(zip(("width", "height"), image.size, strict=True))
    found = {"picture": str(path), "class": best, "probabilities": probabilities, "inverted": image.is_inverted}
    return json.dumps(found | size, ensure_ascii=False)


class _Pictures:
    """The pictures of a command line, a batch at a time; each that cannot be read is a line on stderr."""

    def __init__(self, paths: Sequence[Path], read: Read) -> None:
        self.paths, self.failed = paths, 0
        self._read = read

    def __iter__(self) -> Iterator[list[tuple[Path, InputImage]]]:
        for start in range(0, len(self.paths), BATCH):
            if batch := list(self._batch(self.paths[start : start + BATCH])):
                yield batch

    def _batch(self, paths: Iterable[Path]) -> Iterator[tuple[Path, InputImage]]:
        for path in paths:
            try:
                yield path, self._read(path)
            except DataError as error:
                self.failed += 1
                print(f"error: {path}: {one_line_text(error)}", file=sys.stderr)


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


def _reader(arguments: argparse.Namespace, model: ImageClassifier) -> Read:
    """Return the function that reads a picture as the model's data and the command line say."""
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
        model = ImageClassifier.read(arguments.model)
        if model.is_synthetic:
            print(f"warning: the model was trained on {SYNTHETIC_NOTE}", file=sys.stderr)
        batches = _Pictures(arguments.pictures, _reader(arguments, model))
        if arguments.request:
            images = [image for batch in batches for _, image in batch]
            if images:
                print(json.dumps({"inputs": model.inputs(images).tolist()}))
        else:
            _predict(model, batches, arguments)
        if batches.failed:
            sys.exit(1)


def _predict(model: ImageClassifier, batches: _Pictures, arguments: argparse.Namespace) -> None:
    predict: Predict | None = None
    width = max(len(str(path)) for path in batches.paths)
    for batch in batches:
        predict = predict or model.network()  # seconds: loaded only once a picture is read
        for (path, image), row in zip(batch, predict(model.inputs([image for _, image in batch])), strict=True):
            probabilities = dict(zip(model.classes, row.tolist(), strict=True))
            if arguments.json:
                print(_json(path, image, probabilities), flush=True)
            else:
                print(text(path, image, probabilities, arguments.top, width), flush=True)


if __name__ == "__main__":
    main()
