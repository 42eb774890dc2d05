"""Synthetic data: deterministic, plausible, learnable, and read like the real data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from twinnet.core import config, provenance
from twinnet.core.schema import ImageDataset, NBADataset, SyntheticKind
from twinnet.data.download import synthetic_images, synthetic_players
from twinnet.data.formats import idx, nba


def test_players_depend_on_the_season_alone() -> None:
    first, again, other = (synthetic_players.players(season)[0] for season in (2019, 2019, 2018))
    assert first.equals(again)
    assert not first["AST"].equals(other["AST"])


def test_players_pass_the_checks_and_are_learnable(compose_suite: Callable[..., DictConfig], tmp_path: Path) -> None:
    dataset = config.dataset(compose_suite().datasets.nba)
    assert isinstance(dataset, NBADataset)
    synthetic_players.generate(dataset, tmp_path / "nba")
    table = nba.table(dataset, tmp_path / "nba")
    assert len(table) == synthetic_players.PLAYERS
    assert 0.4 < table["is_forward"].mean() < 0.6
    assert 1.5 < table["apg"].mean() < 2.5
    assert 3 < table["rpg"].mean() < 5
    assert 6 < table["ppg"].mean() < 12
    assert {"G", "F", "C"} <= set(table["pos"].str[0])
    X, y = table[["apg", "rpg"]], table["is_forward"]
    assert 0.7 < LogisticRegression().fit(X, y).score(X, y) < 0.98


@pytest.mark.parametrize("kind", [SyntheticKind.garments, SyntheticKind.digits])
def test_pictures_are_the_same_each_time_and_learnable(kind: SyntheticKind) -> None:
    labels = np.arange(1500) % 10
    X = synthetic_images.draw(kind, labels, 1)
    assert (X.shape, X.dtype) == ((1500, 28, 28), np.uint8)
    np.testing.assert_array_equal(X, synthetic_images.draw(kind, labels, 1))
    assert not np.array_equal(X, synthetic_images.draw(kind, labels, 2))
    assert len(np.unique(X.reshape(1500, -1), axis=0)) == 1500
    assert X.reshape(1500, -1).max(axis=1).min() > 60  # something is drawn on each
    flat = X.reshape(1500, -1) / 255
    assert KNeighborsClassifier(3).fit(flat[:1200], labels[:1200]).score(flat[1200:], labels[1200:]) > 0.8


def test_pictures_lie_in_files_like_the_real_ones(compose_suite: Callable[..., DictConfig], tmp_path: Path) -> None:
    dataset = config.dataset(compose_suite(*_smaller("mnist")).datasets.mnist)
    assert isinstance(dataset, ImageDataset)
    names = synthetic_images.generate(dataset, tmp_path / "a")
    synthetic_images.generate(dataset, tmp_path / "b")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in names:
        assert provenance.sha256(tmp_path / "a" / name) == provenance.sha256(tmp_path / "b" / name)
    arrays = idx.read(dataset, tmp_path / "a", pinned=False)
    assert arrays["X_train"].shape == (300, 28, 28)
    assert np.bincount(arrays["y_train"]).tolist() == [30] * 10


def _smaller(name: str) -> list[str]:
    arrays = f"datasets.{name}.arrays"
    return [
        f"{arrays}.X_train.shape=[300,28,28]",
        f"{arrays}.y_train.shape=[300]",
        f"{arrays}.X_test.shape=[50,28,28]",
        f"{arrays}.y_test.shape=[50]",
    ]
