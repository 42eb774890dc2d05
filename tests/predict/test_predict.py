"""Classes of pictures, from the command line and from a server."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from tests.processed import write_arrays
from tests.servers import SERVER_SECONDS, free_port, serving
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment
from twinnet.data.formats.idx import decode_idx
from twinnet.predict import __main__, pictures
from twinnet.predict.classifier import ImageClassifier
from twinnet.tracking.publish import publish
from twinnet.tracking.store import connect
from twinnet.training.experiment import train

pytestmark = pytest.mark.xdist_group("keras")  # TensorFlow is loaded, and the two models are trained, once

CLASSES = ["disc", "bar", "cross"]
SHAPE = (28, 28, 1)
Command = Callable[..., tuple[int, list[str], list[str]]]


def draw(kind: int, random: np.random.Generator) -> Image.Image:
    """A bright object on black that fills the frame, as those of Fashion-MNIST do."""
    image = Image.new("L", (28, 28))
    pen, grey, middle = ImageDraw.Draw(image), int(random.integers(140, 256)), int(random.integers(11, 17))
    if CLASSES[kind] == "disc":
        pen.ellipse((0, 0, 27, 27), fill=grey)
    elif CLASSES[kind] == "bar":
        pen.rectangle((9, 0, 18, 27), fill=grey)
    else:
        pen.rectangle((0, middle - 2, 27, middle + 2), fill=grey)
        pen.rectangle((middle - 2, 0, middle + 2, 27), fill=grey)
    return image


def arrays(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(samples) % len(CLASSES)
    return np.stack([np.asarray(draw(kind, random)) for kind in y]), y.astype(np.uint8)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with drawn images as its Fashion-MNIST."""
    root = tmp_path_factory.mktemp("predict")
    (root / "conf").mkdir(parents=True)
    (root / "conf" / "config.yaml").touch()
    (root / "dvc.yaml").touch()
    splits = {f"{name}_{split}": array for split, samples, seed in (("train", 60, 0), ("valid", 15, 1), ("test", 24, 2))
              for name, array in zip("Xy", arrays(samples, seed), strict=True)}  # fmt: skip
    splits |= {f"{name}_train": np.concatenate([splits.pop(f"{name}_valid"), splits[f"{name}_train"]]) for name in "Xy"}
    write_arrays(root, "fashion_mnist", splits)
    return root


@pytest.fixture(scope="module")
def scratch(project: Path, compose: Callable[..., Experiment]) -> Path:
    """The directory of a run of the scratch engine, whose data are standardised."""
    small = ["engine=scratch_numpy", "model=mlp", "model.hidden_units=[16]", "data.scaling=standard", "epochs=20"]
    more = ["batch_size=15", "optimizer.learning_rate=0.01", "data.valid_samples=15", f"data.classes={CLASSES}"]
    return train(compose("fashion_dense_scratch", *small, *more), project / "runs" / "scratch", root=project).directory


@pytest.fixture(scope="module")
def keras(project: Path, compose: Callable[..., Experiment]) -> Path:
    """The directory of a run of Keras, evaluated with mirror images."""
    small = ["model.filters=[4]", "model.dense_units=[]", "epochs=2", "batch_size=15", "data.valid_samples=15"]
    more = [f"data.classes={CLASSES}", "augmentation.flip_at_test=true", "augmentation.shift_at_test=0"]
    more += ["engine.mixed_precision=false"]  # bfloat16 rounds by the size of a batch
    return train(compose("fashion_cnn", *small, *more), project / "runs" / "keras", root=project).directory


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


both = pytest.mark.parametrize("run", ["scratch", pytest.param("keras", marks=pytest.mark.slow)], indirect=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(model, picture, ...)`: exit status, lines of stdout, stderr without the warning of synthetic data."""

    def called(*arguments: object) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        capsys.readouterr()
        status: object = 0
        try:
            __main__.main()
        except SystemExit as stopped:
            status = stopped.code
        out, err = capsys.readouterr()
        assert isinstance(status, int)
        return (
            status,
            out.splitlines(),
            [
                line
                for line in err.splitlines()
                if not line.startswith("warning: the model was trained on synthetic data")
            ],
        )

    return called


@pytest.fixture
def evaluated(project: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(project / "data/processed/fashion_mnist/arrays.npz") as saved:
        return saved["X_test"], saved["y_test"]


def saved(folder: Path, images: np.ndarray, change: Callable[[Image.Image], Image.Image] = lambda image: image) -> list:
    paths = [folder / f"{i:02}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        change(Image.fromarray(image)).save(path)
    return paths


def probabilities(lines: list[str]) -> np.ndarray:
    """The probabilities in lines of JSON, (pictures, classes)."""
    return np.array([list(json.loads(line)["probabilities"].values()) for line in lines])


@both
@pytest.mark.parametrize("bright", [False, True], ids=["dark", "bright"])
def test_test_image_gives_the_prediction_of_the_run(
    run: Path, bright: bool, evaluated: tuple[np.ndarray, np.ndarray], command: Command, tmp_path: Path
) -> None:
    X, _ = evaluated
    status, lines, errors = command(run, *saved(tmp_path, 255 - X if bright else X), "--json")
    assert (status, errors) == (0, [])
    with np.load(run / "predictions.npz") as predictions:
        np.testing.assert_array_equal(probabilities(lines), predictions["y_prob"])
    assert [json.loads(line)["inverted"] for line in lines] == [bright] * len(X)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((112, 112), Image.Resampling.NEAREST),
        lambda image: image.resize((112, 112), Image.Resampling.BICUBIC).convert("RGB"),
        lambda image: image.resize((14, 14), Image.Resampling.BOX),
        lambda image: on_paper(image, (640, 200), (410, 60)),
        lambda image: on_paper(image, (200, 900), (20, 30)),
        lambda image: transparent(image, 0),
        lambda image: transparent(image, 255),
    ],
    ids=["4x", "4x smooth", "half", "wide, on paper", "tall, on paper", "black, transparent", "white, transparent"],
)
def test_a_picture_of_another_size_has_the_same_class(
    scratch: Path,
    change: Callable[[Image.Image], Image.Image],
    evaluated: tuple[np.ndarray, np.ndarray],
    command: Command,
    tmp_path: Path,
) -> None:
    X, y = (array[:9] for array in evaluated)
    status, lines, _ = command(scratch, *saved(tmp_path, X, change), "--json")
    assert status == 0
    assert [json.loads(line)["class"] for line in lines] == [CLASSES[label] for label in y]


def on_paper(image: Image.Image, size: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    """Dark on paper that is not quite white and has a grain, as a camera sees it."""
    grain = np.random.default_rng(0).integers(225, 232, size[::-1], dtype=np.uint8)
    paper = Image.fromarray(grain)
    paper.paste(40, place, image.resize((112, 112)).point(lambda value: 255 * (value > 70)).convert("1"))
    return paper


def transparent(image: Image.Image, grey: int) -> Image.Image:
    large = Image.new("RGBA", (150, 150), (128, 128, 128, 0))
    large.paste((grey, grey, grey, 255), (30, 10), image.resize((112, 112)).point(lambda value: 255 * (value > 70)))
    return large


def test_a_line_names_the_most_probable_classes(scratch: Path, command: Command, tmp_path: Path) -> None:
    disc = saved(tmp_path, 255 - arrays(1, 5)[0])[0]
    status, (line,), _ = command(scratch / "model.npz", disc, "--top", "2")
    assert status == 0
    assert line.startswith(f"{disc}  disc ")
    assert line.count("%") == 2
    assert line.endswith("%  (inverted)")
    _, (line,), _ = command(scratch, disc, "--no-invert")
    assert "inverted" not in line


def test_every_kind_of_picture_is_read(tmp_path: Path) -> None:
    image = draw(2, np.random.default_rng(3))
    large, pixels = image.resize((84, 84), Image.Resampling.NEAREST), np.asarray(image)
    kinds: dict[str, Image.Image] = {
        "16 bits.png": Image.fromarray(pixels.astype(np.uint16) * 257),
        "32 bits.tiff": Image.fromarray(pixels.astype(np.int32)),
        "floats.tiff": Image.fromarray(pixels.astype(np.float32) / 255),
        "rgb.png": image.convert("RGB"),
        "with alpha.png": image.convert("LA"),
        "palette.gif": large.convert("P"),
        "cmyk.jpg": large.convert("CMYK"),
        "lab.tiff": large.convert("RGB").convert("LAB"),
        "one bit.bmp": large.convert("1", dither=Image.Dither.NONE),
        "web.webp": large,
    }
    for name, kind in kinds.items():
        kind.save(tmp_path / name)
        read = pictures.read(tmp_path / name, SHAPE)
        assert (read.size, read.is_inverted) == (kind.size, False)
        assert (read.pixels > 100).mean() == pytest.approx((pixels > 100).mean(), abs=0.05), name


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    image = Image.new("L", (28, 28))
    image.paste(255, (0, 0, 20, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    turned = pictures.read(tmp_path / "turned.png", SHAPE)
    np.testing.assert_array_equal(turned.pixels[..., 0], np.rot90(np.asarray(image), -1))


def test_a_digit_stands_where_those_of_mnist_stand() -> None:
    """In 20 x 20 pixels, the centre of mass in the middle."""
    image = Image.new("L", (300, 300))
    ImageDraw.Draw(image).polygon([(40, 50), (140, 50), (90, 250)], fill=255)
    pixels = pictures.to_input(image, SHAPE, margin=4).pixels[..., 0].astype(float)
    rows = np.flatnonzero(pixels.any(axis=1))
    assert rows[-1] - rows[0] == 19
    for axis in (0, 1):
        assert np.average(np.arange(28), weights=pixels.sum(axis=axis)) == pytest.approx(14, abs=0.51)


@pytest.mark.parametrize("box", [(500, 100, 512, 900), (100, 500, 900, 516)])
def test_thin_stroke_fills_its_frame(box: tuple[int, int, int, int]) -> None:
    """A side of less than half a pixel is one pixel."""
    image = Image.new("L", (1000, 1000), 255)
    image.paste(0, box)
    for margin in (0, 4):
        bright = pictures.to_input(image, SHAPE, margin).pixels[..., 0] > 150
        assert bright.sum() == 28 - 2 * margin
        assert bright.any(axis=0).sum() == 1 or bright.any(axis=1).sum() == 1


def test_colours_are_neither_trimmed_nor_inverted() -> None:
    image = Image.new("RGB", (40, 20), (250, 240, 10))
    image.putpixel((3, 3), (0, 0, 90))
    found = pictures.to_input(image, (8, 8, 3))
    assert not found.is_inverted
    np.testing.assert_array_equal(found.pixels[[0, -1]], np.full((2, 8, 3), (250, 240, 10)))
    assert found.pixels.std(axis=(0, 1)).min() > 0


def test_bad_file_is_one_line_and_stops_no_other(
    scratch: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, other = saved(tmp_path, arrays(2, 6)[0])
    broken: dict[str, bytes] = {
        "empty.png": b"",
        "words.png": b"no picture",
        "truncated.png": good.read_bytes()[:-30],
        "damaged.png": good.read_bytes()[:50] + b"\xff\xff" + good.read_bytes()[52:],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    Image.new("1", (120, 120)).save(tmp_path / "large.png")  # a warning of Pillow, beyond twice as many an error
    Image.new("1", (200, 200)).save(tmp_path / "bomb.png")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = [*broken, "bomb.png", "large.png", "blank.png", "pipe.png", "missing.png", "."]
    status, lines, errors = command(scratch, good, *(tmp_path / name for name in names), other)
    assert status == 1
    assert [line.split()[0] for line in lines] == [str(good), str(other)]
    assert [line.split(": expected ")[0] for line in errors] == [f"error: {tmp_path / name}" for name in names]


def test_broken_pictures_load_no_engine(scratch: Path, tmp_path: Path) -> None:
    run = copied(scratch, tmp_path)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["engine"] = {"kind": "keras", "dtype": "float32"}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "model.keras").touch()
    code = (
        "import sys; from twinnet.core.errors import exit_on_error; from twinnet.predict.__main__ import main\n"
        f"sys.argv = ['predict', {str(run)!r}, {str(run / 'model.keras')!r}]\n"
        "try: main()\n"
        "except SystemExit as stopped: assert stopped.code == 1\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith("expected a picture; received an empty file")


def test_run_without_predictions_still_predicts(scratch: Path, command: Command, tmp_path: Path) -> None:
    run, picture = copied(scratch, tmp_path), saved(tmp_path, arrays(1, 0)[0])[0]
    for name in ("predictions.npz", "metrics.json", "record.json", "history.csv", "history.npz"):
        (run / name).unlink()
    assert command(run, picture)[0] == 0


def test_many_pictures_are_predicted_in_batches(
    scratch: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(__main__, "BATCH", 2)
    paths = saved(tmp_path, arrays(5, 7)[0])
    status, lines, errors = command(scratch, *paths[:3], tmp_path / "missing.png", *paths[3:], "--json")
    assert (status, len(errors)) == (1, 1)
    assert [json.loads(line)["picture"] for line in lines] == [str(path) for path in paths]


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "copy"))


def drop(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(content)


def into_folder(name: str) -> Callable[[Path], None]:
    def changed(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return changed


def configure(**values: object) -> Callable[[Path], object]:
    def changed(run: Path) -> None:
        settings = yaml.safe_load((run / "config.yaml").read_text())
        settings["data"] |= values
        (run / "config.yaml").write_text(yaml.safe_dump(settings))

    return changed


def unpicklable(run: Path) -> None:
    np.savez(run / "model.npz", network=np.array([print], dtype=object))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (drop("config.yaml"), "config.yaml: expected config.yaml; found none"),
        (drop("scaling.json"), "scaling.json: expected scaling.json; found none"),
        (drop("model.npz"), "model.npz: expected the trained network; found none"),
        (write("config.yaml", "a: ["), "expected the file of a finished run"),
        (write("config.yaml", "- a"), "expected the file of a finished run"),
        (
            write("scaling.json", '{"mean": [0.0], "scale": [[1], [2, 3]]}'),
            "scaling.json: expected 1 finite numbers for 'scale'",
        ),
        (
            write("model.npz", "no model"),
            "model.npz: expected a model as config.yaml describes it; received ValueError",
        ),
        (unpicklable, "Object arrays cannot be loaded when allow_pickle=False"),
        (configure(classes=["a", "b"]), "expected 2 outputs, for the classes in config.yaml; received 3"),
        (configure(image_shape=[30, 30, 1]), "expected samples x 28 x 28 x 1"),
        (configure(image_shape=[784]), "data.image_shape: expected [height,width,channels]"),
        (configure(clases=[]), "clases"),
    ],
)
def test_damaged_run_is_one_line(
    scratch: Path, damage: Callable[[Path], object], line: str, command: Command, tmp_path: Path
) -> None:
    run = copied(scratch, tmp_path)
    damage(run)
    status, lines, errors = command(run, *saved(tmp_path, arrays(1, 0)[0]))
    assert (status, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("error: ")
    assert line in errors[0]


@pytest.mark.slow
def test_a_damaged_keras_model_is_one_line(keras: Path, command: Command, tmp_path: Path) -> None:
    run, picture = copied(keras, tmp_path), saved(tmp_path, arrays(1, 0)[0])[0]
    content = (run / "model.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    for damaged in (content[: len(content) // 2], b"no model", (tmp_path / "other.zip").read_bytes()):
        (run / "model.keras").write_bytes(damaged)
        status, lines, errors = command(run, picture)
        assert (status, lines, len(errors)) == (1, [], 1)
        assert "model.keras: expected" in errors[0]


def test_other_arguments_are_refused_in_one_line(
    scratch: Path, command: Command, tmp_path: Path, compose: Callable[..., Experiment], tiny_project: Path
) -> None:
    table = train(compose("nba_scratch", "engine=scratch_numpy", "epochs=3"), tmp_path / "table", root=tiny_project)
    picture = saved(tmp_path, arrays(1, 0)[0])[0]
    for arguments, line in (
        ((table.directory, picture), "expected a model that classifies images; received data.kind=table"),
        ((scratch / "metrics.json", picture), "received another name"),
        ((tmp_path / "nothing" / "model.npz", picture), "received no such file"),
        ((scratch, picture, "--margin", "14"), "--margin: expected 0 to 13; received 14"),
        ((scratch, picture, "--top", "0"), "--top: expected at least 1; received 0"),
    ):
        status, lines, errors = command(*arguments)
        assert (status, lines, len(errors)) == (1, [], 1)
        assert line in errors[0]


def test_command_warns_of_a_model_of_synthetic_data(scratch: Path, tmp_path: Path) -> None:
    picture = saved(tmp_path, arrays(1, 0)[0])[0]
    asked = [sys.executable, "-m", "twinnet.predict", scratch, picture]
    done = subprocess.run(asked, text=True, capture_output=True, check=True)
    assert "disc" in done.stdout
    assert done.stderr == "warning: the model was trained on synthetic data: drawn by a program, not measured\n"


@pytest.mark.real_data
def test_no_real_test_image_is_taken_for_a_negative(mirror: Path) -> None:
    for name in ("fashion_mnist", "mnist"):
        with gzip.open(mirror / name / "t10k-images-idx3-ubyte.gz") as file:
            images = decode_idx(file.read(), name, [10_000, 28, 28])
        assert not any(pictures.to_input(Image.fromarray(image), SHAPE).is_inverted for image in images)


@contextmanager
def serving_model(model: str, folder: Path) -> Iterator[str]:
    """The address of `mlflow models serve` for a model of the store in `folder`."""
    port = free_port()
    program = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(port)]
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # where it finds uvicorn
    }
    with serving(folder, program, port, environment, health="ping") as address:
        yield f"{address}/invocations"


@pytest.fixture(scope="module")
def models(scratch: Path, keras: Path, project: Path, migrated: Path) -> dict[str, str]:
    """The address of the model of each run, as its description in the store says it."""
    shutil.copy(migrated, project / "mlflow.db")
    publish(project / "runs", root=project)
    described = {
        run.info.run_name: run.data.tags["mlflow.note.content"]
        for run in connect(f"sqlite:///{project / 'mlflow.db'}").search("")
    }
    named = ((scratch, "fashion_dense_scratch"), (keras, "fashion_cnn"))
    return {
        directory.name: described[name].partition("mlflow models serve -m ")[2].split()[0] for directory, name in named
    }


@pytest.mark.slow
@both
def test_served_model_answers_a_request_made_of_pictures(
    run: Path,
    models: dict[str, str],
    project: Path,
    evaluated: tuple[np.ndarray, np.ndarray],
    command: Command,
    tmp_path: Path,
) -> None:
    X, _ = evaluated
    images = 255 - np.concatenate([X, X[:, :, ::-1]])
    _, (body,), _ = command(run, *saved(tmp_path, images), "--request")
    with serving_model(models[run.name], project) as address:
        request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SERVER_SECONDS) as answer:
            rows = json.load(answer)["predictions"]
    assert not re.search("absl|oneDNN", (project / "server.log").read_text())  # TensorFlow's notes
    assert all(list(row) == ImageClassifier.read(run).classes for row in rows)
    plain, mirrored = np.split(np.array([list(row.values()) for row in rows]), 2)
    flip = ImageClassifier.read(run).experiment.augmentation.flip_at_test  # which the network itself knows nothing of
    with np.load(run / "predictions.npz") as predictions:
        expected = predictions["y_prob"]
    np.testing.assert_allclose((plain + mirrored) / 2 if flip else plain, expected, rtol=1e-4, atol=1e-6)


def test_requirements_of_logged_models_are_installed(models: dict[str, str], project: Path) -> None:
    """MLflow would load TensorFlow for `tensorflow`, which is not the package that is installed."""
    client = connect(f"sqlite:///{project / 'mlflow.db'}").client
    for address in models.values():
        folder = client.get_logged_model(address.rpartition("/")[2]).artifact_location.removeprefix("file://")
        for requirement in (Path(folder) / "requirements.txt").read_text().split():
            name, _, pinned = requirement.partition("==")
            assert version(name) == pinned


def test_what_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a picture; received no such file"):
        pictures.read(tmp_path / "missing.png", SHAPE)
