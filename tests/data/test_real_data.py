"""The real data of the mirror: what the pipeline makes of it is what the chapter's algorithm was run on."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from twinnet.core import config, paths, provenance
from twinnet.core.schema import NBADataset
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.dataset import load_splits

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not os.environ.get("TWINNET_MIRROR"), reason="TWINNET_MIRROR is not set"),
]
# SHA-256 of the bytes of X_train (float64) and y_train (int64) of the season 2019-20, from an independent computation.
X_TRAIN = "90d6b02ea357296e126fe29e03cf95a097518b511ed440cf6053efa69f066cb1"
Y_TRAIN = "47942189272c543c45563688892e08ce7e4db6b90cf1d1b3ffa6bcc8f117b6a0"


@pytest.fixture(scope="module")
def composed(compose_suite: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    return lambda *overrides: compose_suite("datasets.nba.source=real", *overrides)


def test_season_2019_is_split_as_in_the_chapter(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    suite = composed()
    dataset = config.dataset(suite.datasets.nba)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    splits = load_splits(config.experiment(suite.experiments.nba_scratch).data, root=tmp_path, dtype="float64")
    assert splits.source == "mirror"
    assert (splits.X_train.shape, splits.X_valid.shape) == ((354, 2), (175, 2))
    assert splits.X_train[:3].tolist() == [[0.0, 0.7], [3.4, 3.6], [0.8, 0.9]]
    assert hashlib.sha256(splits.X_train.tobytes()).hexdigest() == X_TRAIN
    assert hashlib.sha256(splits.y_train.tobytes()).hexdigest() == Y_TRAIN


def test_two_seasons_are_split_by_season(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    suite = composed("datasets.nba.seasons=[2018,2019]")
    dataset = config.dataset(suite.datasets.nba)
    assert isinstance(dataset, NBADataset)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    splits = load_splits(config.experiment(suite.experiments.nba_scratch).data, root=tmp_path)
    assert sorted([len(splits.y_train), len(splits.y_valid)]) == [529, 530]


def test_another_season_by_one_key(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    dataset = config.dataset(composed("datasets.nba.season=2018").datasets.nba)
    download_dataset(dataset, tmp_path)
    assert len(pd.read_csv(preprocess_dataset(dataset, tmp_path))) == 530


# Players with statistics in the seasons 1996-97 to 2022-23, less those without a position in the index.
NO_POSITION = {1998: 1, 2000: 3, 2001: 2, 2013: 1, 2014: 3}
REGULAR = (
    *(441, 439, 440, 439, 441, 440, 428, 442, 464, 458, 458, 451, 445, 442),
    *(452, 478, 469, 482, 492, 476, 486, 540, 530, 529, 540, 605, 539),
)
PLAYOFFS = (
    *(189, 190, 189, 181, 190, 186, 187, 189, 188, 195, 191, 202, 199, 199),
    *(194, 204, 209, 204, 208, 215, 215, 210, 212, 217, 239, 217, 216),
)


@pytest.fixture
def snapshot() -> Path:
    """The pinned files of the snapshot: in TWINNET_SNAPSHOT, or beside the mirror."""
    folder = Path(os.environ.get("TWINNET_SNAPSHOT") or Path(os.environ["TWINNET_MIRROR"]).parent / "snapshot")
    if not (folder / "player").is_dir():
        pytest.skip("needs TWINNET_SNAPSHOT, a folder with player/*.csv")
    return folder


@pytest.mark.parametrize(
    "seasons",
    [
        pytest.param(sorted({1996, *NO_POSITION, 2022}), id="first_last_and_incomplete"),
        pytest.param(range(1996, 2023), id="every", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize(
    ("season_type", "players", "without"), [("regular_season", REGULAR, NO_POSITION), ("playoffs", PLAYOFFS, {})]
)
def test_seasons_of_the_snapshot_are_accepted(
    season_type: str, players: tuple[int, ...], without: dict[int, int], seasons: Sequence[int],
    composed: Callable[..., DictConfig], snapshot: Path, tmp_path: Path,
) -> None:  # fmt: skip
    suite = composed(f"datasets.nba.season_type={season_type}", f"datasets.nba.seasons=[{','.join(map(str, seasons))}]")
    dataset = config.dataset(suite.datasets.nba)
    pinned = replace(dataset.sources["snapshot"], address=f"{snapshot}/")
    assert len(pinned.sha256) == 3
    download_dataset(replace(dataset, sources={"snapshot": pinned}), tmp_path)
    counts = pd.read_csv(preprocess_dataset(dataset, tmp_path), usecols=["season"])["season"].value_counts().to_dict()
    assert counts == {season: players[season - 1996] - without.get(season, 0) for season in seasons}
    note = provenance.read("nba", tmp_path, paths.PROCESSED).note
    assert note.count("(no position)") == sum(without.values())
    if without:
        assert note.startswith("players left out of 1998-99: 1 of 440: ")


@pytest.mark.parametrize(
    ("name", "mean", "first"), [("fashion_mnist", 72.94, [9, 0, 0, 3, 0]), ("mnist", 33.32, [5, 0, 4, 1, 9])]
)
def test_images_are_the_published_ones(
    name: str, mean: float, first: list[int], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """The mean pixel of the 60,000 training images, and the first labels, are known."""
    dataset = config.dataset(composed(f"datasets.{name}.source=real").datasets[name])
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    splits = load_splits(dataset.reading, root=tmp_path)
    assert splits.X_test is not None
    assert [X.shape for X in (splits.X_train, splits.X_valid, splits.X_test)] == [
        (55_000, 28, 28, 1),
        (5_000, 28, 28, 1),
        (10_000, 28, 28, 1),
    ]
    everything = (55_000 * splits.X_train.mean(dtype=float) + 5_000 * splits.X_valid.mean(dtype=float)) / 60_000
    assert everything * 255 == pytest.approx(mean, abs=0.01)
    assert splits.y_valid[:5].tolist() == first
