"""The splits that an experiment reads, and the one line if it cannot."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.faults.worlds import Images, World, idx_world, json_world, npz_world
from tests.processed import write_arrays, write_bytes, write_table
from twinnet.core import provenance
from twinnet.core.errors import ConfigError, DataError
from twinnet.core.provenance import Provenance
from twinnet.core.schema import Data, ImageData, Scaling, Source, SourcePolicy, TableData, Task
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.dataset import load_splits


@pytest.fixture
def table(tmp_path: Path) -> TableData:
    """A table of 100 rows, its column y the sign of x, and how to read it."""
    x = np.random.default_rng(0).normal(5, 3, 100).round(2)
    frame = pd.DataFrame({"x": x, "constant": 2.0, "y": (x > 5).astype(int), "height": 2 * x})
    write_table(tmp_path, "t", frame, "mirror")
    return TableData(name="t", task=Task.binary, classes=["a", "b"], features=["x", "constant"], target="y")


def image_arrays() -> dict[str, np.ndarray]:
    X = np.random.default_rng(0).integers(256, size=(80, 4, 4), dtype=np.uint8)
    y = (np.arange(80) % 3).astype(np.uint8)
    return {"X_train": X[:60], "y_train": y[:60], "X_test": X[60:], "y_test": y[60:]}


@pytest.fixture
def images(tmp_path: Path) -> ImageData:
    """60 training images of 4 x 4 pixels in three classes, 20 of them for validation, and how to read them."""
    write_arrays(tmp_path, "i", image_arrays())
    classes = ["a", "b", "c"]
    return ImageData(name="i", task=Task.multiclass, classes=classes, image_shape=[4, 4, 1], valid_samples=20)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_table_is_read_in_the_engine_s_type(table: TableData, tmp_path: Path, dtype: str) -> None:
    splits = load_splits(table, root=tmp_path, dtype=dtype)
    assert (splits.X_train.shape, splits.X_valid.shape, splits.X_test) == ((67, 2), (33, 2), None)
    assert (splits.X_train.dtype, splits.y_train.dtype) == (np.dtype(dtype), np.int64)
    assert splits.source == "mirror"
    assert splits.digest == provenance.sha256(tmp_path / "data/processed/t/table.csv")
    np.testing.assert_array_equal(splits.y_train, splits.X_train[:, 0] > 5)
    np.testing.assert_array_equal((splits.mean, splits.scale), ([0, 0], [1, 1]))


def test_standard_scaling_is_that_of_the_training_split_alone(table: TableData, tmp_path: Path) -> None:
    raw = load_splits(table, root=tmp_path, dtype="float64")
    scaled = load_splits(replace(table, scaling=Scaling.standard), root=tmp_path, dtype="float64")
    np.testing.assert_allclose(scaled.X_train[:, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.X_train[:, 0].std(), 1)
    assert abs(scaled.X_valid[:, 0].mean()) > 1e-3
    np.testing.assert_allclose(scaled.X_valid * scaled.scale + scaled.mean, raw.X_valid)
    assert scaled.scale[1] == 1  # the column that does not vary
    capped = load_splits(replace(table, scaling=Scaling.standard), root=tmp_path, dtype="float64", samples=10)
    np.testing.assert_array_equal(capped.X_train, scaled.X_train[:10])


def test_target_may_be_a_number(table: TableData, tmp_path: Path) -> None:
    regression = replace(table, task=Task.regression, target="height", classes=None)
    splits = load_splits(regression, root=tmp_path)
    assert splits.y_train.dtype == np.float32
    np.testing.assert_allclose(splits.y_train, 2 * splits.X_train[:, 0], rtol=1e-6)


def test_name_without_a_label_is_refused(images: ImageData, tmp_path: Path) -> None:
    expected = r"data\.classes: expected 3 names, as the labels of i are 0 to 2; received 4"
    with pytest.raises(DataError, match=expected):
        load_splits(replace(images, classes=["a", "b", "c", "d"]), root=tmp_path)


def test_images_get_a_channel_and_the_same_pixels(images: ImageData, tmp_path: Path) -> None:
    splits = load_splits(images, root=tmp_path)
    assert (splits.X_train.shape, splits.X_valid.shape) == ((40, 4, 4, 1), (20, 4, 4, 1))
    assert splits.X_test is not None
    assert splits.source == "synthetic"
    stored = image_arrays()
    np.testing.assert_array_equal(splits.X_test[..., 0], stored["X_test"])
    unit = load_splits(replace(images, scaling=Scaling.unit), root=tmp_path)
    np.testing.assert_array_equal(unit.X_train[..., 0], stored["X_train"][20:].astype(np.float32) / np.float32(255))
    standard = load_splits(replace(images, scaling=Scaling.standard), root=tmp_path, dtype="float64")
    np.testing.assert_allclose((standard.X_train.mean(), standard.X_train.std()), (0, 1), atol=1e-12)


def test_every_split_is_capped(images: ImageData, tmp_path: Path) -> None:
    splits = load_splits(images, root=tmp_path, samples=7)
    assert splits.X_test is not None
    assert [len(X) for X in (splits.X_train, splits.X_valid, splits.X_test)] == [7, 7, 7]


@pytest.mark.parametrize("kind", ["table", "images"])
def test_missing_file_names_the_command(kind: str, table: TableData, images: ImageData, tmp_path: Path) -> None:
    read: Data = table if kind == "table" else images
    folder = tmp_path / "data/processed" / read.name
    for file in (read.file, "provenance.json"):
        (folder / file).unlink()
        expected = f"expected data/processed/{read.name}/{file}; found none; run `dvc repro preprocess@{read.name}`"
        with pytest.raises(DataError, match=expected):
            load_splits(read, root=tmp_path)


@pytest.mark.parametrize("kind", ["table", "images"])
def test_file_other_than_its_provenance_is_refused(
    kind: str, table: TableData, images: ImageData, tmp_path: Path
) -> None:
    read: Data = table if kind == "table" else images
    file = tmp_path / "data/processed" / read.name / read.file
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"{read.file}: expected the SHA-256 .*; received .*; run `dvc repro pre") as e:
        load_splits(read, root=tmp_path)
    assert "\n" not in str(e.value)


def test_file_of_older_conf_is_refused_with_the_new_name(table: TableData, tmp_path: Path) -> None:
    expected = r"data.file: expected table.csv, in data/processed/t/; received 'nba_players.csv'; leave it out"
    with pytest.raises(ConfigError, match=expected):
        load_splits(replace(table, file="nba_players.csv"), root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 broken"])
def test_damaged_archive_is_one_line(content: bytes, images: ImageData, tmp_path: Path) -> None:
    write_bytes(tmp_path, "i", "arrays.npz", content)
    with pytest.raises(DataError, match=r"expected an \.npz archive of arrays"):
        load_splits(images, root=tmp_path)


def test_archive_without_an_array_is_one_line(images: ImageData, tmp_path: Path) -> None:
    write_arrays(tmp_path, "i", {"X_train": np.zeros((3, 4, 4), np.uint8)})
    with pytest.raises(DataError, match="expected the arrays y_train"):
        load_splits(images, root=tmp_path)


def test_pickled_array_is_refused(images: ImageData, tmp_path: Path) -> None:
    write_arrays(tmp_path, "i", {"X_train": np.array([{}], object)})
    with pytest.raises(DataError, match=r"expected an \.npz archive of arrays"):
        load_splits(images, root=tmp_path)


@pytest.mark.parametrize("world", [idx_world(), npz_world(), json_world()], ids=["idx", "npz", "json"])
def test_stages_lead_from_a_mirror_to_splits(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three stages one after the other, twice: the same bytes each time."""
    folder = tmp_path / "m" / ("nba/2019-20" if world.kind == "json" else "pictures")
    folder.mkdir(parents=True)
    for name, content in world.files.items():
        (folder / (f"{name}.json" if world.kind == "json" else name)).write_bytes(content)
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "m"))
    dataset = replace(world.dataset(), source=SourcePolicy.real, sources={"mirror": Source(kind="mirror")})
    digests = []
    for root in (tmp_path / "a", tmp_path / "b"):
        download_dataset(dataset, root)
        file = preprocess_dataset(dataset, root)
        splits = load_splits(dataset.reading, root=root, dtype="float64")
        assert (splits.source, splits.digest) == ("mirror", provenance.sha256(file))
        assert sorted(path.name for path in file.parent.iterdir()) == sorted([dataset.reading.file, "provenance.json"])
        digests.append([provenance.sha256(path) for path in file.parent.iterdir()])
        if isinstance(world, Images):
            stored = world.arrays()
            np.testing.assert_array_equal(splits.X_valid[..., 0], stored["X_train"][:50])
            np.testing.assert_array_equal(splits.X_train[..., 0], stored["X_train"][50:])
            np.testing.assert_array_equal(splits.y_train, stored["y_train"][50:])
    assert digests[0] == digests[1]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") and path.is_file()]


def test_preprocess_names_the_command_that_is_missing(tmp_path: Path) -> None:
    for dataset in (json_world().dataset(), idx_world().dataset()):
        with pytest.raises(DataError, match=f"run `dvc repro download@{dataset.name}`"):
            preprocess_dataset(dataset, tmp_path)
        provenance.write(tmp_path / "data/raw" / dataset.name, Provenance(dataset.name, "mirror", "MIT", "", ()))
        with pytest.raises(DataError, match=rf"expected .*; found none; run `dvc repro -f download@{dataset.name}`"):
            preprocess_dataset(dataset, tmp_path)
        with pytest.raises(ConfigError, match=r"data\.file: expected .*; received 'old'; leave it out"):
            preprocess_dataset(replace(dataset, reading=replace(dataset.reading, file="old")), tmp_path)


def test_reading_70000_images_takes_under_half_a_second(tmp_path: Path) -> None:
    """Reading and splitting, without the conversion to the engine's type; the disk cache is warm."""
    X, y = np.zeros((70_000, 28, 28), np.uint8), (np.arange(70_000) % 10).astype(np.uint8)
    cut = {"train": slice(60_000), "test": slice(60_000, None)}
    arrays = {f"{name}_{split}": array[rows] for split, rows in cut.items() for name, array in (("X", X), ("y", y))}
    write_arrays(tmp_path, "big", arrays)
    big = ImageData(name="big", task=Task.multiclass, classes=[str(c) for c in range(10)])
    times = []
    for _ in range(3):
        started = time.process_time()
        load_splits(big, root=tmp_path, samples=1)
        times.append(time.process_time() - started)
    assert min(times) < 0.5


def test_loading_holds_no_more_than_two_copies(tmp_path: Path) -> None:
    """Of the arrays as the engine wants them: measured by the process's own peak of memory.

    A peak of its own: that of getrusage is at first its parent's.
    """
    X, y = np.zeros((40_000, 28, 28), np.uint8), (np.arange(40_000) % 10).astype(np.uint8)
    write_arrays(tmp_path, "big", {"X_train": X, "y_train": y})
    script = (
        "import sys; from pathlib import Path; from twinnet.training.dataset import load_splits;"
        "from twinnet.core.schema import ImageData, Scaling, Task;"
        "big = ImageData(name='big', task=Task.multiclass, classes=list('0123456789'));"
        "big.scaling = Scaling.standard;"
        "peak = lambda: int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]);"
        "before = peak();"
        "splits = load_splits(big, root=Path(sys.argv[1]));"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    copy = 40_000 * 784 * 4
    assert copy < int(done.stdout) * 1024 < 2.2 * copy  # a tenth is imports


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("twinnet.training.dataset", {"requests", "pandera", "tensorflow", "jax", "keras", "mlflow", "matplotlib"}),
        ("twinnet.data.download.download", {"sklearn", "tensorflow", "jax", "keras", "mlflow", "matplotlib"}),
        ("twinnet.data.preprocess", {"requests", "tensorflow", "jax", "keras", "mlflow", "matplotlib"}),
    ],
)
def test_stage_imports_only_the_libraries_it_needs(module: str, absent: set[str]) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
