"""Data cards: source, hashes, counts and values of a data set."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.faults.server import FaultServer
from tests.data.faults.worlds import idx_world, json_world
from twinnet.core import provenance
from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, SourcePolicy
from twinnet.data import card as cards
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset
from twinnet.training.dataset import load_splits


def served(server: FaultServer) -> Dataset:
    world = json_world()
    server.files = {f"/{name}": content for name, content in world.files.items()}
    dataset = replace(world.dataset(), title="Sixty players", licence="none")
    return replace(dataset, source=SourcePolicy.real, sources={"upstream": world.source(server.address)})


def test_card_of_a_table(server: FaultServer, tmp_path: Path) -> None:
    dataset = served(server)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    path = cards.write(dataset, tmp_path)
    card = path.read_text(encoding="utf-8")
    assert path == tmp_path / "reports" / "data" / "nba" / "card.md"
    assert card.startswith("# Sixty players\n\n|")
    assert "| season | 2019-20 |" in card
    assert "| all | 40 | 20 |" in card
    assert "| `apg` | 0" in card
    assert "sha-256" in card.lower()
    assert (tmp_path / "reports" / "data" / "nba" / "samples.png").read_bytes()[:4] == b"\x89PNG"
    assert cards.write(dataset, tmp_path).read_text(encoding="utf-8") == card


def test_card_of_images_and_of_synthetic_data(server: FaultServer, tmp_path: Path) -> None:
    world = idx_world()
    server.files = {f"/{name}": content for name, content in world.files.items()}
    dataset = replace(world.dataset(), title="Noise | in ten classes", sources={"u": world.source(server.address)})
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    card = cards.write(dataset, tmp_path).read_text(encoding="utf-8")
    assert "| 0 | 15 (10.0%) | 5 (10.0%) | 5 (10.0%) |" in card
    assert "| shape | 8 x 8 x 1, uint8 |" in card
    splits = load_splits(dataset.reading, root=tmp_path)
    title = cards.picture(dataset, splits, None, provenance.read("pictures", tmp_path)).get_suptitle()
    assert f"{len(splits.y_train)} training samples" in title.replace("\n", " ")
    expected = {"regular_season": [350, 750]}
    players = replace(json_world().dataset(), source=SourcePolicy.synthetic, players=expected)  # type: ignore[call-arg]  # it is an NBADataset
    download_dataset(players, tmp_path)
    preprocess_dataset(players, tmp_path)
    assert "**synthetic data: drawn by a program, not measured**" in cards.write(players, tmp_path).read_text(
        encoding="utf-8"
    )


def test_card_without_its_data_names_the_command(server: FaultServer, tmp_path: Path) -> None:
    dataset = served(server)
    with pytest.raises(DataError, match="dvc repro preprocess@nba"):
        cards.write(dataset, tmp_path)
