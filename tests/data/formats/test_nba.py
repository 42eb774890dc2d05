"""The table of players, from answers and from CSV files, and what it must not say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.faults.worlds import SEASON, csv_world, json_world, season
from twinnet.core.errors import DataError
from twinnet.core.schema import NBADataset, season_name
from twinnet.data.formats import nba, nba_consistency


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    place = folder / "2019-20"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / f"{name}.json").write_bytes(content)
    return folder


def players(**changes: object) -> NBADataset:
    dataset = json_world().dataset()
    assert isinstance(dataset, NBADataset)
    return replace(dataset, **changes)  # type: ignore[arg-type]


def test_columns_of_the_index_have_a_prefix(tmp_path: Path) -> None:
    world = json_world()
    index = json.loads(world.files["playerindex"])
    result = index["resultSets"][0]
    result["headers"] += ["PTS", "TEAM_ID"]
    for row in result["rowSet"]:
        row += [99.9, 1]
    files = world.files | {"playerindex": json.dumps(index).encode()}
    table = nba.table(players(), laid_out(tmp_path, files))
    assert list(table.columns[:8]) == nba.LEADING
    assert (table["index_pts"] == 99.9).all()
    assert (table["index_team_id"] == 1).all()
    assert not (table["ppg"] == 99.9).any()
    assert {"ast", "reb", "pts", "position", "person_id"}.isdisjoint(table.columns)
    heights = [int(feet) * 12 + int(inches) for feet, inches in table["height"].str.split("-")]
    assert table["height_inches"].tolist() == heights


def test_label_is_0_for_a_position_that_begins_with_g(tmp_path: Path) -> None:
    table = nba.table(players(), laid_out(tmp_path, json_world().files))
    assert {"G", "G-F", "F", "C"} <= set(table["pos"])
    assert table["is_forward"].tolist() == [0 if pos[0] == "G" else 1 for pos in table["pos"]]


@settings(deadline=None, max_examples=8)
@given(st.randoms(use_true_random=False))
def test_rows_and_columns_may_come_in_any_order(tmp_path_factory: pytest.TempPathFactory, random) -> None:  # type: ignore[no-untyped-def]  # hypothesis's own Random
    world = json_world()
    expected = nba.table(players(), laid_out(tmp_path_factory.mktemp("raw"), world.files))
    files = {}
    for name, content in world.files.items():
        answer = json.loads(content)
        result = answer["resultSets"][0]
        order = random.sample(range(len(result["headers"])), len(result["headers"]))
        rows = [[row[at] for at in order] for row in result["rowSet"]]
        result |= {"headers": [result["headers"][at] for at in order], "rowSet": random.sample(rows, len(rows))}
        files[name] = json.dumps(answer).encode()
    received = nba.table(players(), laid_out(tmp_path_factory.mktemp("raw"), files))
    pd.testing.assert_frame_equal(received, expected)


def test_snapshot_gives_the_same_players_as_the_service(tmp_path: Path) -> None:
    for name, content in csv_world().files.items():
        (tmp_path / Path(name).name).write_bytes(content)
    snapshot = nba.table(players(), tmp_path)
    service = nba.table(players(), laid_out(tmp_path / "json", json_world().files))
    pd.testing.assert_frame_equal(snapshot, service, check_dtype=False)


def test_several_seasons_follow_each_other(tmp_path: Path) -> None:
    stats, index = zip(*(season(year) for year in (2018, 2019)), strict=True)
    both = pd.concat([frame.assign(SEASON=season_name(2018 + at)) for at, frame in enumerate(stats)])
    both.to_csv(tmp_path / "player_stats_traditionnal_rs.csv", index=False)
    index[1].to_csv(tmp_path / nba.SNAPSHOT_INDEX, index=False)
    table = nba.table(players(seasons=[2019, 2018]), tmp_path)
    assert table["season"].tolist() == [2018] * 60 + [2019] * 60


def test_seasons_are_named_as_the_service_names_them() -> None:
    assert [season_name(year) for year in (1996, 1999, 2009, 2019)] == ["1996-97", "1999-00", "2009-10", "2019-20"]


def test_implausible_number_of_players_is_refused(tmp_path: Path) -> None:
    raw = laid_out(tmp_path, json_world().files)
    with pytest.raises(DataError, match="2019-20: expected 350 to 750 players; received 60"):
        nba.table(players(players={"regular_season": [350, 750]}), raw)


def edited(file: str, edit: Callable[[list[str], list[list[Any]]], None]) -> dict[str, bytes]:
    """The answers with the headers and rows of one of them edited."""
    answer = json.loads(json_world().files[file])
    result = answer["resultSets"][0]
    edit(result["headers"], result["rowSet"])
    return json_world().files | {file: json.dumps(answer).encode()}


TWICE = "listed twice with different values"
LEFT_OUT: dict[str, tuple[str, Callable[[list[str], list[list[Any]]], None], str]] = {
    "no position": ("playerindex", lambda h, rows: rows[7].__setitem__(h.index("POSITION"), None), "no position"),
    "empty position": ("playerindex", lambda h, rows: rows[7].__setitem__(h.index("POSITION"), ""), "no position"),
    "two heights": (
        "playerindex",
        lambda h, rows: rows.append([*rows[7][:-1], -1]),
        TWICE,
    ),
    "two statistics": (
        "leaguedashplayerstats",
        lambda h, rows: rows.append([-5.0 if name == "PLUS_MINUS" else v for name, v in zip(h, rows[7], strict=True)]),
        TWICE,
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_few_ambiguous_players_are_left_out(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, edit, reason = LEFT_OUT[name]
    raw = laid_out(tmp_path, edited(file, edit))
    strict = name != "two statistics"  # whose further row has a rank too many
    table, note = nba.read(players(max_left_out=0.02, strict=strict), raw)
    assert len(table) == 59
    assert note == f"players left out of 2019-20: 1 of 60: Synthetic 008 ({reason})"
    assert f"nba: {note}" in caplog.text
    with pytest.raises(DataError, match=r"1 of 60 have none or are listed twice, such as Synthetic 008; max_left"):
        nba.table(players(strict=strict), raw)


@pytest.mark.parametrize("file", ["playerindex", "leaguedashplayerstats"])
def test_player_listed_twice_with_equal_values_is_one(file: str, tmp_path: Path) -> None:
    raw = laid_out(tmp_path, edited(file, lambda headers, rows: rows.append(rows[7])))
    table, note = nba.read(players(), raw)
    assert (len(table), note) == (60, "")


def test_strict_false_accepts_a_table_with_contradictions(tmp_path: Path) -> None:
    answer = json.loads(json_world().files["leaguedashplayerstats"])
    result = answer["resultSets"][0]
    result["rowSet"][3][result["headers"].index("AST_RANK")] = 7000
    raw = laid_out(tmp_path, json_world().files | {"leaguedashplayerstats": json.dumps(answer).encode()})
    with pytest.raises(DataError, match=r"ast_rank has a gap .*strict=false"):
        nba.table(players(), raw)
    assert len(nba.table(players(strict=False), raw)) == 60


@pytest.fixture
def stats() -> pd.DataFrame:
    return season(SEASON)[0].rename(columns=str.lower)


@settings(deadline=None, max_examples=30)
@given(row=st.integers(0, 59), column=st.sampled_from(["reb", "oreb", "dreb", "pts", "gp", "w", "l", "fgm"]))
def test_changed_term_or_sum_is_noticed(row: int, column: str) -> None:
    stats = season(SEASON)[0].rename(columns=str.lower)
    nba_consistency.check(stats)
    stats.loc[row, column] += 2.0
    with pytest.raises(DataError, match="contradict themselves"):
        nba_consistency.check(stats)


@settings(deadline=None, max_examples=20)
@given(row=st.integers(0, 59))
def test_missing_or_doubled_row_is_noticed(row: int) -> None:
    stats = season(SEASON)[0].rename(columns=str.lower)
    for wrong in (stats.drop(index=row), pd.concat([stats, stats.loc[[row]]], ignore_index=True)):
        with pytest.raises(DataError, match="has a gap"):
            nba_consistency.check(wrong)


def test_missing_statistics_are_not_checked(stats: pd.DataFrame) -> None:
    nba_consistency.check(stats.drop(columns=[name for name in stats if name.endswith("_rank")]))
    nba_consistency.check(stats.assign(blk_rank=np.nan))
    nba_consistency.check(stats.drop(columns=["oreb", "w"]))
