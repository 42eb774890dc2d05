"""NBA tables: the service's answers and the snapshot's CSV files to one row a player and season.

Columns are found by header name, since their order has changed over the years. PTS, REB and AST of `playerindex` are
not of the season in the request, and its team is the latest one: they get the prefix `index_`.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from twinnet.core.errors import DataError
from twinnet.core.schema import NBADataset, SeasonType, season_name
from twinnet.data.formats import nba_consistency

log = logging.getLogger(__name__)

INDEX, STATS = "playerindex.json", "leaguedashplayerstats.json"
SNAPSHOT_INDEX = "player_index.csv"
SNAPSHOT_STATS = {
    SeasonType.regular_season: "player_stats_traditionnal_rs.csv",
    SeasonType.playoffs: "player_stats_traditional_po.csv",
}
POSITIONS = ("G", "F", "C", "G-F", "F-G", "F-C", "C-F")
RENAMED = {"ast": "apg", "reb": "rpg", "pts": "ppg", "position": "pos"}
LEADING = ["season", "player_id", "player_name", "pos", "is_forward", "apg", "rpg", "ppg"]
INDEX_NUMBERS = ["weight", "draft_year", "draft_round", "draft_number", "from_year", "to_year", "roster_status"]

PER_GAME = {"min": 63, "fgm": 40, "fga": 60, "fg3m": 20, "fg3a": 30, "ftm": 30, "fta": 40}
PER_GAME |= {"oreb": 30, "dreb": 40, "reb": 50, "ast": 30, "tov": 20, "stl": 15, "blk": 20, "pf": 6, "pts": 100}
STATS_SCHEMA = pa.DataFrameSchema(
    {
        "player_id": pa.Column(int, pa.Check.gt(0), coerce=True),
        "player_name": pa.Column(str, pa.Check.str_length(min_value=1)),
        "age": pa.Column(float, pa.Check.in_range(16, 55), coerce=True),
        "gp": pa.Column(float, pa.Check.in_range(1, 90), coerce=True),
        "fg_pct": pa.Column(float, pa.Check.in_range(0, 1), coerce=True),
        "ft_pct": pa.Column(float, pa.Check.in_range(0, 1), coerce=True),
    }
    | {name: pa.Column(float, pa.Check.in_range(0, most), coerce=True) for name, most in PER_GAME.items()},
    name="player statistics",
)
INDEX_SCHEMA = pa.DataFrameSchema(
    {
        "person_id": pa.Column(int, pa.Check.gt(0), unique=True, coerce=True),
        "position": pa.Column(str, pa.Check.isin(POSITIONS)),
    },
    name="player index",
)


def seasons(dataset: NBADataset) -> list[int]:
    """Return the years in which the configured seasons begin."""
    return [dataset.season] if dataset.seasons is None else sorted(set(dataset.seasons))


def title(season_type: SeasonType) -> str:
    """Return the type of season as the service writes it."""
    return season_type.replace("_", " ").title()


def folder(season: int, season_type: SeasonType) -> str:
    """Return the folder of a season in data/raw/nba/ and in a mirror: 2019-20, 2019-20-playoffs."""
    return season_name(season) + ("" if season_type is SeasonType.regular_season else f"-{season_type}")


def table(dataset: NBADataset, raw: Path) -> pd.DataFrame:
    """Return one row a player and season, sorted by season, name and id, whatever order the files have.

    `apg`, `rpg` and `ppg` are AST, REB and PTS of the season; `is_forward` is 0 if `pos` begins with G, else 1;
    `season` is the year in which it begins. Raises DataError if a file is not the table expected.
    """
    return read(dataset, raw)[0]


def read(dataset: NBADataset, raw: Path) -> tuple[pd.DataFrame, str]:
    """Return the table and a note on the players who are left out of it (see `_ambiguous`), empty if there are none."""
    parts, notes = [], []
    for season, stats, index in _season_files(dataset, raw):
        part, left_out = _season_table(dataset, season, stats, index)
        parts.append(part.assign(season=season))
        if left_out:
            names = ", ".join(f"{name} ({reason})" for name, reason in sorted(left_out.items()))
            notes.append(f"{season_name(season)}: {len(left_out)} of {len(part) + len(left_out)}: {names}")
    note = f"players left out of {'; '.join(notes)}" if notes else ""
    if note:
        log.warning("%s: %s", dataset.name, note)
    joined = pd.concat(parts, ignore_index=True).rename(columns=RENAMED)
    joined["is_forward"] = (~joined["pos"].str.startswith("G")).astype(int)
    rest = sorted(set(joined.columns) - set(LEADING))
    return joined[LEADING + rest].sort_values(["season", "player_name", "player_id"], ignore_index=True), note


def _season_table(
    dataset: NBADataset, season: int, stats: pd.DataFrame, index: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the players of a season, and the names of those who are left out with the reason."""
    if stats.empty:
        raise DataError(f"expected the players of the season {season_name(season)}; received none")
    stats = _checked(_distinct(stats), STATS_SCHEMA)
    if dataset.strict:
        nba_consistency.check(stats)
    if missing := sorted({"person_id", "position"} - set(index)):
        raise DataError(f"{INDEX_SCHEMA.name}: expected the columns {', '.join(missing)}, which are missing")
    ids = stats["player_id"].astype(str)
    known = _distinct(index[index["person_id"].astype(str).isin(ids)])
    if lacking := len(set(ids) - set(known["person_id"].astype(str))):
        raise DataError(f"player index: expected every player of the season; {lacking} of {len(stats)} are missing")
    reasons = _ambiguous(stats, known)
    left_out = {str(name): reasons[i] for i, name in zip(ids, stats["player_name"], strict=True) if i in reasons}
    if not len(reasons) <= dataset.max_left_out * ids.nunique():
        raise DataError(
            f"{season_name(season)}: expected one position for each player; {len(reasons)} of {ids.nunique()} have "
            f"none or are listed twice, such as {min(left_out)}; max_left_out={dataset.max_left_out} allows a fraction "
            "of them"
        )
    part = _join(stats[~ids.isin(reasons)], known[~known["person_id"].astype(str).isin(reasons)])
    fewest, most = dataset.players[dataset.season_type]
    if not fewest <= len(part) <= most:
        raise DataError(f"{season_name(season)}: expected {fewest} to {most} players; received {len(part)}")
    return part, left_out


def _distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with equal rows once: a person listed twice with equal values is one player."""
    return frame[~frame.astype(str).duplicated()]


def _ambiguous(stats: pd.DataFrame, known: pd.DataFrame) -> dict[str, str]:
    """Return ids of players who have no position, or two rows with different values, with the reason."""
    found: dict[str, str] = {}
    for frame, key in ((stats, "player_id"), (known, "person_id")):
        ids = frame[key].astype(str)
        found |= dict.fromkeys(ids[ids.duplicated()], "listed twice with different values")
    no_position = known["position"].isna() | (known["position"] == "")
    return found | dict.fromkeys(known["person_id"][no_position].astype(str), "no position")


def _join(stats: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the season's rows joined with the index's row of the same player."""
    known = _checked(known, INDEX_SCHEMA)
    clash = (set(known.columns) & set(stats.columns)) | {"stats_timeframe", "team_slug", "team_city", "team_name"}
    known = known.rename(columns={name: f"index_{name}" for name in clash})
    numbers = [name for name in INDEX_NUMBERS if name in known]
    known = known.assign(**{name: pd.to_numeric(known[name], errors="coerce") for name in numbers})
    if "height" in known:
        known["height_inches"] = _inches(known["height"])
    return stats.merge(known, left_on="player_id", right_on="person_id", validate="one_to_one").drop(
        columns="person_id"
    )


def _inches(height: pd.Series) -> pd.Series:
    """Return feet and inches such as 6-11 in inches; NaN for other text."""
    parts = height.astype(str).str.extract(r"^(\d)-(\d{1,2})$").astype(float)
    return parts[0] * 12 + parts[1]


def _checked(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return the frame with the types of the schema; raises DataError for the first values that do not fit."""
    if missing := sorted(set(schema.columns) - set(frame.columns)):
        raise DataError(f"{schema.name}: expected the columns {', '.join(missing)}, which are missing")
    try:
        return schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        first = [f"{row.column} {row.check} (received {row.failure_case!r})" for row in cases.head(3).itertuples()]
        more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
        raise DataError(f"{schema.name}: expected {'; '.join(first)}{more}") from error


def _season_files(dataset: NBADataset, raw: Path) -> Iterator[tuple[int, pd.DataFrame, pd.DataFrame]]:
    """Yield each season with its statistics and index, from whichever files the folder holds."""
    file = raw / SNAPSHOT_STATS[dataset.season_type]
    if file.exists():
        stats, index = _csv(file), _csv(raw / SNAPSHOT_INDEX)
        if "season" not in stats:
            raise DataError("player statistics: expected the column season; it is missing")
        for season in seasons(dataset):
            yield season, stats[stats["season"] == season_name(season)].drop(columns="season"), index
        return
    for season in seasons(dataset):
        place = raw / folder(season, dataset.season_type)
        parameters = {"Season": season_name(season)}
        stats_parameters = parameters | {"SeasonType": title(dataset.season_type), "PerMode": "PerGame"}
        yield season, _result_set(place / STATS, stats_parameters), _result_set(place / INDEX, parameters)


def _csv(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False, encoding="utf-8")
    except ValueError as error:
        raise DataError(f"{path.name}: expected a CSV table; {error}") from error
    row_numbers = [name for name in frame if str(name).startswith("Unnamed:")]
    return _lower_case(frame.drop(columns=row_numbers), path)


def _result_set(path: Path, expected: Mapping[str, str]) -> pd.DataFrame:
    """Return the one result set of an answer; raises DataError for the answer to another request."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        received = answer["parameters"]
        (result,) = answer["resultSets"]
        headers, rows = result["headers"], result["rowSet"]
        if any(type(row) is not list or len(row) != len(headers) for row in rows):
            raise ValueError(f"rows of other lengths than the {len(headers)} headers")
        frame = pd.DataFrame(rows, columns=headers)
        wrong = {key: received[key] for key in expected if received.get(key, expected[key]) != expected[key]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0][:120]
        raise DataError(f"{path.name}: expected an answer of the statistics service in JSON; {reason}") from error
    if wrong:
        raise DataError(f"{path.name}: expected the answer for {dict(expected)}; received one for {wrong}")
    return _lower_case(frame, path)


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _lower_case(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    frame.columns = pd.Index([str(name).strip().lower() for name in frame.columns])
    if not frame.columns.is_unique:
        twice = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise DataError(f"{path.name}: expected each column once; {', '.join(twice)} stands there twice")
    return frame
