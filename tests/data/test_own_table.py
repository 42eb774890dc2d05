"""A table of one's own, a CSV file, by two yaml files: downloaded, checked, trained and drawn like the others."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.processed import write_table
from tests.suite import copy_conf
from twinnet.compare.draw import seasons
from twinnet.core import config, paths, provenance
from twinnet.core.errors import DataError
from twinnet.data import card
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.dataset import load_splits
from twinnet.training.experiment import train

ROOT = Path(__file__).parents[2]
READING = """
defaults: [schema/table@_here_, _self_]
name: flowers
task: multiclass
classes: [rose, tulip, 鬱金香]
features: [length, width]
target: species
scaling: standard
stratify: true
"""
DATASET = """
defaults: [schema/table@_here_, {/data@reading: flowers}, _self_]
name: flowers
title: Flowers
licence: CC0
sources: {mirror: {kind: mirror}}
files: {flowers.csv: SHA-256}
"""


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose conf/ has the two files; the mirror has the table, which begins with a byte order mark."""
    species = np.arange(90) % 3
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "length": (species + random.normal(0, 0.1, 90)).round(3),
        "width": random.normal(3, 1, 90).round(3),
        "species": np.array(["rose", "tulip", "鬱金香"])[species],
        "remark": None,
    })  # fmt: skip
    content = frame.to_csv(index=False).encode("utf-8-sig")
    (tmp_path / "mirror/flowers").mkdir(parents=True)
    (tmp_path / "mirror/flowers/flowers.csv").write_bytes(content)
    root = copy_conf(ROOT, tmp_path / "checkout", "dataset@datasets.flowers: flowers")
    (root / "dvc.yaml").touch()
    (root / "conf/data/flowers.yaml").write_text(READING, encoding="utf-8")
    dataset = DATASET.replace("SHA-256", hashlib.sha256(content).hexdigest())
    (root / "conf/dataset/flowers.yaml").write_text(dataset, encoding="utf-8")
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "mirror"))
    return root


def test_own_table_is_trained_by_two_yaml_files(flowers: Path) -> None:
    suite = config.compose(flowers, "config")
    dataset = config.dataset(suite.datasets.flowers)
    download_dataset(dataset, flowers)
    table = pd.read_csv(preprocess_dataset(dataset, flowers))
    assert list(table) == ["length", "width", "species", "remark"]
    assert table["species"].tolist() == [0, 1, 2] * 30
    text = card.write(dataset, flowers).read_text(encoding="utf-8")
    assert "# Flowers" in text
    assert "| 鬱金香 | 20 (33.3%) | 10 (33.3%) |" in text
    words = [
        "experiment=nba_scratch",
        "data=flowers",
        "engine=scratch_numpy",
        "epochs=300",
        "optimizer.learning_rate=0.1",
    ]
    experiment = config.experiment(config.compose(flowers, "train", words))
    assert load_splits(experiment.data, root=flowers).source == "mirror"
    train(experiment, flowers / "run", root=flowers)
    predictions = np.load(flowers / "run/predictions.npz")
    assert predictions["y_prob"].shape == (30, 3)


def test_own_columns_are_not_read_as_those_of_players(flowers: Path) -> None:
    species = np.arange(90) % 3
    columns = {"min": species + 0.5, "blk": 1.0, "species": species, "pos": "a", "season": 1 + species % 2}
    write_table(flowers, "flowers", pd.DataFrame(columns))
    words = ["+dataset@datasets.flowers=flowers", "datasets.flowers.reading.features=[min,blk]"]
    dataset = config.dataset(config.compose(flowers, "config", words).datasets.flowers)
    splits, recorded = load_splits(dataset.reading, root=flowers), provenance.read("flowers", flowers, paths.PROCESSED)
    left, right = card.picture(dataset, splits, pd.DataFrame(columns), recorded).axes
    assert (left.get_xlabel(), left.get_ylabel(), left.get_title()) == ("min", "blk", "samples")
    assert right.get_title() == "classes"
    assert seasons("flowers", flowers) == ""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "datasets.flowers.reading.features=[length,depth]",
            r"flowers.csv: expected the columns depth; received length",
        ),
        (
            "datasets.flowers.reading.classes=[rose,tulip]",
            r"expected the classes rose, tulip in species; received 鬱金香",
        ),
        ("datasets.flowers.files={flowers.csv: abc}", r"flowers.csv: expected the SHA-256 abc; received"),
        ("datasets.flowers.transport.max_bytes=100", r"expected at most 100 bytes"),
        ("+datasets.flowers.files={more.csv: abc}", r"files: expected one table; received"),
    ],
)
def test_table_that_conf_contradicts_is_one_line(override: str, message: str, flowers: Path) -> None:
    suite = config.compose(flowers, "config", [override])
    if override.startswith("+"):
        shutil.copy(flowers.parent / "mirror/flowers/flowers.csv", flowers.parent / "mirror/flowers/more.csv")
    with pytest.raises(DataError, match=message) as raised:
        download_dataset(config.dataset(suite.datasets.flowers), flowers)
    assert "\n" not in str(raised.value)
    assert "source=synthetic" not in str(raised.value), "a table has no synthetic data"
    assert not (flowers / "data/raw/flowers").exists()


def test_table_without_rows_is_one_line(flowers: Path) -> None:
    content = b"length,width,species\n"
    (flowers.parent / "mirror/flowers/flowers.csv").write_bytes(content)
    files = f"datasets.flowers.files={{flowers.csv: {hashlib.sha256(content).hexdigest()}}}"
    suite = config.compose(flowers, "config", ["+dataset@datasets.flowers=flowers", files])
    with pytest.raises(DataError, match=r"flowers.csv: expected rows; received none"):
        download_dataset(config.dataset(suite.datasets.flowers), flowers)
