"""Changes of data are told, and data cards say what a data set is."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.faults.server import FaultServer
from tests.data.faults.worlds import idx_world, json_world
from twinnet.core.errors import DataError
from twinnet.core.schema import Dataset, SourcePolicy
from twinnet.data import card as cards
from twinnet.data.download import drift
from twinnet.data.download.download import download_dataset
from twinnet.data.preprocess import preprocess_dataset


@settings(deadline=None, max_examples=30)
@given(
    removed=st.sets(st.integers(0, 19), max_size=5),
    added=st.integers(0, 4),
    changed=st.sets(st.integers(0, 19), max_size=5),
)
def test_rows_are_counted_whatever_their_order(removed: set[int], added: int, changed: set[int]) -> None:
    before = pd.DataFrame({"season": 2019, "player_id": range(20), "player_name": "n", "apg": 1.0, "age": None})
    after = before.copy()
    after.loc[list(changed), "apg"] = 2.0
    after = after.drop(index=list(removed))
    new = pd.DataFrame({"season": 2019, "player_id": range(100, 100 + added), "player_name": "n", "apg": 1.0})
    after = pd.concat([after, new]).sample(frac=1, random_state=0)
    change = drift.compare(before, after)
    assert (change.added, change.removed, change.changed) == (added, len(removed), len(changed - removed))
    assert change.cells == ({"apg": len(changed - removed)} if changed - removed else {})
    assert bool(change) == bool(added or removed or changed - removed)


def served(server: FaultServer) -> Dataset:
    world = json_world()
    server.files = {f"/{name}": content for name, content in world.files.items()}
    dataset = replace(world.dataset(), title="Sixty players", licence="none")
    return replace(dataset, source=SourcePolicy.real, sources={"upstream": world.source(server.address)})


def changed_answer(content: bytes) -> bytes:
    answer = json.loads(content)
    headers, rows = (answer["resultSets"][0][key] for key in ("headers", "rowSet"))
    rows[0][headers.index("WEIGHT")] += 40
    return json.dumps(answer).encode()


def test_a_changed_answer_is_reported_and_stands_on_the_card(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dataset = served(server)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    first = cards.write(dataset, tmp_path).read_text()
    assert "None known" in first
    download_dataset(dataset, tmp_path)
    assert "has changed" not in caplog.text
    server.files["/playerindex"] = changed_answer(server.files["/playerindex"])
    download_dataset(dataset, tmp_path)
    assert "season 2019: the data has changed: 0 rows added, 0 removed, 1 changed (upstream -> upstream)" in caplog.text
    assert "weight of Stand-in 001" in caplog.text
    preprocess_dataset(dataset, tmp_path)
    card = cards.write(dataset, tmp_path).read_text()
    assert "Season 2019-20, upstream to upstream: 0 rows added, 0 removed, 1 changed." in card
    assert "| `weight` | 1 |" in card


def test_the_card_of_a_table(server: FaultServer, tmp_path: Path) -> None:
    dataset = served(server)
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    path = cards.write(dataset, tmp_path)
    card = path.read_text()
    assert path == tmp_path / "reports" / "data" / "nba" / "card.md"
    assert card.startswith("# Sixty players\n\n|")
    assert "| season | 2019-20 |" in card
    assert "| all | 40 | 20 |" in card
    assert "| `apg` | 0" in card
    assert "sha-256" in card.lower()
    assert (tmp_path / "reports" / "data" / "nba" / "samples.png").read_bytes()[:4] == b"\x89PNG"
    assert cards.write(dataset, tmp_path).read_text() == card


def test_the_card_of_images_and_of_a_stand_in(server: FaultServer, tmp_path: Path) -> None:
    world = idx_world()
    server.files = {f"/{name}": content for name, content in world.files.items()}
    dataset = replace(world.dataset(), title="Noise | in ten classes", sources={"u": world.source(server.address)})
    download_dataset(dataset, tmp_path)
    preprocess_dataset(dataset, tmp_path)
    card = cards.write(dataset, tmp_path).read_text()
    assert "| 0 | 15 (10.0%) | 5 (10.0%) | 5 (10.0%) |" in card
    assert "pinned by its SHA-256" in card
    assert "| shape | 8 x 8 x 1, uint8 |" in card
    expected = {"regular_season": [350, 750]}
    players = replace(json_world().dataset(), source=SourcePolicy.synthetic, players=expected)  # type: ignore[call-arg]  # it is an NBADataset
    download_dataset(players, tmp_path)
    preprocess_dataset(players, tmp_path)
    assert "**This is stand-in data" in cards.write(players, tmp_path).read_text()


def test_card_without_its_data_names_the_command(server: FaultServer, tmp_path: Path) -> None:
    dataset = served(server)
    with pytest.raises(DataError, match="dvc repro preprocess@nba"):
        cards.write(dataset, tmp_path)
