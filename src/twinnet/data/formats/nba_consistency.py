"""Consistency of a season's table: the service gives many values twice, so a damaged table contradicts itself.

Beside each value is its rank, `ast_rank` beside `ast`: the rank is one more than the number of players who are
better, so a missing or a doubled row leaves a gap, and a changed value breaks the order. Rebounds, points and games
are sums of other columns, exact but for the rounding to tenths.
"""

import numpy as np
import pandas as pd

from twinnet.core.errors import DataError

HALF_STEP = 0.05  # values are rounded to tenths
SUMS = {  # total -> its terms with their factors
    "gp": {"w": 1, "l": 1},
    "reb": {"oreb": 1, "dreb": 1},
    "pts": {"fgm": 2, "fg3m": 1, "ftm": 1},
}
PARTS = (("fgm", "fga"), ("fg3m", "fg3a"), ("ftm", "fta"), ("fg3m", "fgm"))  # the first is never more


def check(stats: pd.DataFrame) -> None:
    """Raise DataError for the first contradiction in a season's statistics; missing columns are not checked."""
    for total, terms in SUMS.items():
        if {total, *terms} <= set(stats):
            off = stats[total] - sum(factor * stats[term] for term, factor in terms.items())
            tolerance = 0.0 if total == "gp" else HALF_STEP * (1 + sum(terms.values())) + 1e-6
            _fail_at(stats, np.flatnonzero(off.abs() > tolerance), f"{total} is not the sum of {', '.join(terms)}")
    for part, whole in PARTS:
        if {part, whole} <= set(stats):
            _fail_at(stats, np.flatnonzero(stats[part] > stats[whole] + 1e-6), f"{part} is more than {whole}")
    for column in stats:
        value = str(column).removesuffix("_rank")
        if value != column and value in stats:
            _check_rank(stats, value)


def _check_rank(stats: pd.DataFrame, value: str) -> None:
    ranks, values = (pd.to_numeric(stats[name], errors="coerce").to_numpy(float) for name in (f"{value}_rank", value))
    if not (np.isfinite(ranks) & np.isfinite(values)).all():  # a statistic that the service did not keep in that season
        return
    order = np.argsort(ranks, kind="stable")
    ranks, steps = ranks[order], np.diff(values[order])
    better = np.searchsorted(ranks, ranks, side="left")
    _fail_at(stats, order[ranks != better + 1], f"{value}_rank has a gap")
    rises, falls = steps > 0, steps < 0
    if rises.any() and falls.any():
        wrong = falls if rises.sum() > falls.sum() else rises  # of some statistics, such as fouls, the fewest are best
        _fail_at(stats, order[1:][wrong], f"{value} contradicts {value}_rank")


def _fail_at(stats: pd.DataFrame, rows: np.ndarray, what: str) -> None:
    """Raise DataError if there are positions of wrong rows."""
    if len(rows):
        name = stats["player_name"].iloc[rows[0]]
        raise DataError(f"player statistics contradict themselves: {what} (at {name}); strict=false takes them as is")
