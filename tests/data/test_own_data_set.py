"""A data set of one's own by two yaml files: IDX or .npz, trained like the others."""

import gzip
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from tests.suite import copy_conf
from twinnet.core import config
from twinnet.core.errors import DataError
from twinnet.core.schema import ImageDataset
from twinnet.data.download.download import download_dataset
from twinnet.data.formats import idx
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.dataset import load_splits

ROOT = Path(__file__).parents[2]
READING = """
defaults:
  - schema/images@_here_
  - _self_
name: own
task: multiclass
classes: [circle, square]
image_shape: [6, 5, 1]
valid_samples: 10
scaling: unit
"""
DATASET = """
defaults:
  - schema/images@_here_
  - /data@reading: own
  - _self_
name: own
licence: CC0
sources:
  mirror:
    kind: mirror
files:
{files}
arrays:
{arrays}
"""


def own(tmp_path: Path, npz: bool) -> tuple[Path, dict[str, np.ndarray]]:
    """conf/ with the two files in a copy, and a mirror with the data; returns the copy and the true arrays."""
    rng = np.random.default_rng(0)
    arrays = {"X_train": rng.integers(256, size=(40, 6, 5), dtype=np.uint8), "y_train": np.arange(40) % 2}
    mirror = tmp_path / "mirror" / "own"
    mirror.mkdir(parents=True)
    files, described = {}, []
    if npz:
        packed = io.BytesIO()
        np.savez_compressed(packed, images=arrays["X_train"], labels=arrays["y_train"])
        (mirror / "all.npz").write_bytes(packed.getvalue())
        files["all.npz"] = hashlib.sha256(packed.getvalue()).hexdigest()
        members = {"X_train": "images", "y_train": "labels"}
        described = [f"{name}: {{file: all.npz, member: {members[name]}, shape: [40" for name in arrays]
    else:
        for name, array in arrays.items():
            content = idx.encode_idx(array)
            (mirror / f"{name}.idx.gz").write_bytes(gzip.compress(content))
            files[f"{name}.idx.gz"] = hashlib.sha256(content).hexdigest()
        described = [f"{name}: {{file: {name}.idx.gz, shape: [40" for name in arrays]
    ends = ", 6, 5]}", "]}"
    suite = ("dataset@datasets.own: own", "experiment@experiments.fashion_dense: fashion_dense")
    root = copy_conf(ROOT, tmp_path / "checkout", *suite)
    (root / "conf/data/own.yaml").write_text(READING)
    (root / "conf/dataset/own.yaml").write_text(
        DATASET.format(
            files="\n".join(f"  {name}: {digest}" for name, digest in files.items()),
            arrays="\n".join(f"  {text}{end}" for text, end in zip(described, ends, strict=True)),
        )
    )
    return root, arrays


@pytest.mark.parametrize("npz", [False, True], ids=["idx", "npz"])
def test_own_images_need_two_yaml_files(npz: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, arrays = own(tmp_path, npz)
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "mirror"))
    composed = config.compose(root, "config", ["data@experiments.fashion_dense.data=own"])
    dataset = config.dataset(composed.datasets.own)
    download_dataset(dataset, root)
    preprocess_dataset(dataset, root)
    experiment = config.experiment(composed.experiments.fashion_dense)
    splits = load_splits(experiment.data, root=root)
    assert splits.source == "mirror"
    assert splits.X_test is None
    everything = np.concatenate([splits.X_valid, splits.X_train])[..., 0] * 255
    np.testing.assert_allclose(everything, arrays["X_train"], atol=1e-4)
    np.testing.assert_array_equal(np.concatenate([splits.y_valid, splits.y_train]), arrays["y_train"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "datasets.own.arrays.X_train.shape=[40,7,5]",
            r"expected the shape \[40, 7, 5\]; its header says \[40, 6, 5\]",
        ),
        ("datasets.own.reading.classes=[a,b,c]", r"expected each label from 0 to 2, and no other"),
    ],
)
def test_conf_that_contradicts_the_files_is_refused(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = own(tmp_path, npz=False)
    monkeypatch.setenv("TWINNET_MIRROR", str(tmp_path / "mirror"))
    composed = config.compose(root, "config", [override])
    dataset = config.dataset(composed.datasets.own)
    assert isinstance(dataset, ImageDataset)
    with pytest.raises(DataError, match=message):
        download_dataset(dataset, root)
