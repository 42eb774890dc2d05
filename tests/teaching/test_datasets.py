"""Tables and images of the suite in one line: found where the pipeline left them, or downloaded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from twinnet import DeepLearning
from twinnet.core import config, paths
from twinnet.core.errors import ConfigError, DataError
from twinnet.core.stage import params
from twinnet.data.download.download import download_dataset
from twinnet.teaching.datasets import load_images, load_players
from twinnet.training.dataset import split_rows


@pytest.fixture
def checkout(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without data, whose data sets are synthetic, its images few; the working directory."""
    suite = yaml.safe_load((root / "params.yaml").read_text())
    for dataset in suite["datasets"].values():
        dataset["source"] = "synthetic"
        for array in dataset.get("arrays", {}).values():
            array["shape"][0] //= 500
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    (tmp_path / "conf").mkdir()
    shutil.copy(root / "conf/config.yaml", tmp_path / "conf")
    shutil.copy(root / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_players_of_a_season_are_downloaded_and_cached(checkout: Path) -> None:
    players = load_players(2018)
    assert players.attrs["source"] == "synthetic"
    assert set(players["season"]) == {2018}
    assert {"player_name", "pos", "apg", "rpg", "is_forward"} <= set(players)
    assert not (checkout / paths.RAW).exists(), "data/raw/ is the pipeline's"


def test_images_have_labels_and_names_of_classes(checkout: Path) -> None:
    images = load_images("mnist")
    assert images.X_train.shape == (120, 28, 28)
    assert images.y_test is not None
    assert images.y_test.shape == (20,)
    assert images.X_train.dtype == np.uint8
    assert images.classes == [str(digit) for digit in range(10)]


def test_images_without_a_test_split_have_none(checkout: Path) -> None:
    suite = yaml.safe_load((checkout / "params.yaml").read_text())
    digits = suite["datasets"]["mnist"]
    digits["arrays"] = {name: array for name, array in digits["arrays"].items() if name.endswith("_train")}
    digits["files"] = {array["file"]: digits["files"][array["file"]] for array in digits["arrays"].values()}
    (checkout / "params.yaml").write_text(yaml.safe_dump(suite))
    images = load_images("mnist")
    assert images.X_train.shape == (120, 28, 28)
    assert images.X_test is images.y_test is None


def test_another_type_of_season_is_another_download(checkout: Path) -> None:
    regular = load_players(2019)
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("season_type: regular_season", "season_type: playoffs"))
    assert len(load_players(2019)) < len(regular)


def test_data_of_the_pipeline_is_not_downloaded_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_dataset(config.dataset(params()["datasets"]["mnist"]), checkout)
    monkeypatch.setattr("twinnet.teaching.datasets.download_dataset", pytest.fail)
    assert load_images("mnist").source == "synthetic"


@pytest.mark.real_data
def test_real_season_that_is_cached_is_read_again(checkout: Path, mirror: Path) -> None:
    text = (checkout / "params.yaml").read_text().replace("source: synthetic", "source: real")
    (checkout / "params.yaml").write_text(text)
    first = load_players(2018)
    assert first.attrs["source"] == "mirror"
    assert load_players(2018).equals(first)


@pytest.mark.real_data
def test_page_shows_the_lines_that_fit_prints(
    root: Path, checkout: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (checkout / "params.yaml").read_text().replace("source: synthetic", "source: real")
    (checkout / "params.yaml").write_text(text)
    players = load_players(2019)
    rows, _ = split_rows(len(players), fraction=0.33, seed=42)
    X, y = players[["apg", "rpg"]].to_numpy()[rows], players["is_forward"].to_numpy()[rows]
    DeepLearning([2, 4, 1], random_state=0, verbose=True).fit(X, y)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 10
    for page in ("cell_by_cell.md", "cell_by_cell.zh-TW.md"):
        assert printed in (root / "docs" / page).read_text()


def test_wrong_names_and_seasons_are_one_line(checkout: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a data set of conf/config\.yaml: nba, fashion_mnist, mnist"):
        load_images("letters")
    with pytest.raises(ConfigError, match="expected a data set of images; received nba"):
        load_images("nba")
    with pytest.raises(ConfigError, match="expected 1996 to 2100; received 1990"):
        load_players(1990)
    (checkout / "params.yaml").unlink()
    with pytest.raises((ConfigError, DataError), match="make params"):
        load_players()
