"""Synthetic NBA data: players drawn from per-position distributions, as the statistics service answers.

It is for machines that reach no source. A player's minutes are drawn first; every count is minutes / 36 times
a rate of the position (the table below, near the league's averages of the 2010s) times the player's own talent
(gamma distributed, mean 1), rounded to tenths as the service rounds. Nothing here is a real player.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinnet.core.schema import NBADataset, season_name
from twinnet.data.formats import nba

PLAYERS = 520
# Position -> share of the players, then per 36 minutes: assists, rebounds, points, three-point and two-point
# attempts, free-throw attempts, steals, blocks, turnovers; then height in inches and weight in pounds.
COLUMNS = ("share", "ast", "reb", "pts", "fg3a", "fg2a", "fta", "stl", "blk", "tov", "height", "weight")
RATES = {
    "G": (0.37, 5.3, 4.2, 15.5, 6.0, 7.3, 2.6, 1.25, 0.35, 2.3, 75.0, 198),
    "G-F": (0.12, 3.3, 5.2, 14.5, 5.6, 6.6, 2.5, 1.15, 0.50, 1.8, 77.5, 210),
    "F-G": (0.05, 3.0, 5.8, 14.3, 5.3, 6.6, 2.4, 1.10, 0.60, 1.7, 78.5, 214),
    "F": (0.27, 2.5, 7.2, 14.6, 4.8, 7.0, 2.8, 1.00, 0.80, 1.7, 80.0, 225),
    "F-C": (0.07, 2.2, 9.2, 15.0, 3.0, 8.8, 3.4, 0.85, 1.30, 1.8, 82.0, 240),
    "C-F": (0.05, 2.1, 10.0, 15.2, 2.2, 9.4, 3.7, 0.80, 1.50, 1.9, 82.5, 246),
    "C": (0.07, 1.9, 11.0, 15.0, 1.2, 9.9, 4.0, 0.75, 1.80, 2.0, 83.5, 254),
}
TEAMS = 30
RANKED = (
    *("GP", "W", "L", "W_PCT", "MIN", "FGM", "FGA", "FG_PCT", "FG3M", "FG3A", "FG3_PCT", "FTM", "FTA", "FT_PCT"),
    *("OREB", "DREB", "REB", "AST", "TOV", "STL", "BLK", "PF", "PTS", "PLUS_MINUS"),
)
FEWEST_ARE_BEST = ("L", "TOV", "PF")


def generate(dataset: NBADataset, raw: Path) -> list[str]:
    """Write the two answers for each season under `raw`; return the names of the files."""
    fewest, most = dataset.players[dataset.season_type]
    names, number = [], min(max(PLAYERS, fewest), most)
    for season in nba.seasons(dataset):
        place = nba.folder(season, dataset.season_type)
        stats, index = players(season, number)
        parameters = {"LeagueID": "00", "Season": season_name(season)}
        stats_parameters = parameters | {"SeasonType": nba.title(dataset.season_type), "PerMode": "PerGame"}
        (raw / place).mkdir(parents=True)
        for name, frame, sent in ((nba.STATS, stats, stats_parameters), (nba.INDEX, index, parameters)):
            answer = as_api_response(name.removesuffix(".json"), frame, sent)
            (raw / place / name).write_text(json.dumps(answer), encoding="utf-8")
            names.append(f"{place}/{name}")
    return names


def as_api_response(resource: str, frame: pd.DataFrame, parameters: dict[str, str]) -> dict[str, Any]:
    """Return a table as the statistics service answers it."""
    rows = json.loads(frame.to_json(orient="values"))
    result = {"name": resource, "headers": list(frame.columns), "rowSet": rows}
    return {"resource": resource, "parameters": parameters, "resultSets": [result]}


def players(season: int, number: int = PLAYERS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return statistics and index of a season, `number` rows each; the same season is always the same table."""
    rng = np.random.default_rng(season)
    rates = pd.DataFrame(RATES, index=COLUMNS).T
    share = rates["share"].to_numpy() / rates["share"].sum()
    position = rng.choice(rates.index.to_numpy(), number, p=share)
    own = rates.loc[position].reset_index(drop=True)
    stats = _stats(rng, own, 900_000 + np.arange(1, number + 1))
    index = pd.DataFrame(
        {
            "PERSON_ID": stats["PLAYER_ID"],
            "POSITION": position,
            "HEIGHT": [f"{h // 12}-{h % 12}" for h in (own["height"] + rng.normal(0, 1.6, number)).round().astype(int)],
            "WEIGHT": (own["weight"] + rng.normal(0, 13, number)).round(),
            "COUNTRY": "Nowhere",
            "FROM_YEAR": season - (stats["AGE"] - 19).clip(0, 12).astype(int),
            "TO_YEAR": season,
        }
    )
    return stats, index


def _stats(rng: np.random.Generator, own: pd.DataFrame, ids: np.ndarray) -> pd.DataFrame:
    n = len(own)
    minutes = 3 + 34 * rng.beta(1.25, 1.55, n)
    games = np.clip(np.round(82 * rng.beta(1.6, 0.9, n)), 1, 82)

    def count(name: str, spread: float) -> np.ndarray:
        return own[name].to_numpy() * minutes / 36 * rng.gamma(1 / spread, spread, n)

    s = pd.DataFrame({"PLAYER_ID": ids, "PLAYER_NAME": [f"Synthetic {i:03d}" for i in range(1, n + 1)]})
    s["TEAM_ID"] = 1 + rng.integers(TEAMS, size=n)
    s["TEAM_ABBREVIATION"] = [f"T{team:02d}" for team in s["TEAM_ID"]]
    s["AGE"] = np.clip(np.round(rng.gamma(9, 0.8, n) + 19), 19, 43)
    s["GP"], s["MIN"] = games, minutes
    s["W"] = np.round(games * rng.beta(6, 6, n))
    s["L"] = games - s["W"]
    s["W_PCT"] = s["W"] / games
    s["FG3A"], twos, s["FTA"] = count("fg3a", 0.2), count("fg2a", 0.08), count("fta", 0.2)
    s["FG3M"] = s["FG3A"] * rng.beta(18, 33, n)
    s["FGA"] = s["FG3A"] + twos
    s["FGM"] = s["FG3M"] + twos * rng.beta(26, 25, n)
    s["FTM"] = s["FTA"] * rng.beta(15, 5, n)
    s["PTS"] = 2 * s["FGM"] + s["FG3M"] + s["FTM"]
    s["REB"] = count("reb", 0.06)
    s["OREB"] = s["REB"] * rng.beta(5, 17, n)
    s["DREB"] = s["REB"] - s["OREB"]
    for name, spread in (("AST", 0.12), ("TOV", 0.1), ("STL", 0.12), ("BLK", 0.3)):
        s[name] = count(name.lower(), spread)
    s["PF"] = np.minimum(minutes / 36 * rng.gamma(16, 3.2 / 16, n), 6)
    s["PLUS_MINUS"] = minutes / 36 * rng.normal(0, 3.5, n)
    for made, tried in (("FGM", "FGA"), ("FG3M", "FG3A"), ("FTM", "FTA")):
        s[f"{made[:-1]}_PCT"] = (s[made] / s[tried]).round(3)
    s["W_PCT"] = s["W_PCT"].round(3)
    tenths = [name for name in s if s[name].dtype.kind == "f" and not name.endswith("_PCT")]
    s[tenths] = s[tenths].round(1)
    for name in RANKED:
        s[f"{name}_RANK"] = s[name].rank(method="min", ascending=name in FEWEST_ARE_BEST).astype(int)
    return s
