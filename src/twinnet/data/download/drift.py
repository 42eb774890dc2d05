"""How a table differs from the last one that was accepted for the same season: rows added, removed, changed."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

log = logging.getLogger(__name__)

KEY = ["season", "player_id"]
EXAMPLES = 3


@dataclass(frozen=True)
class Change:
    """Counts of rows and, by column, of changed cells; `drift` is by how many standard deviations a mean moved."""

    before: str  # where the version before came from
    after: str
    added: int
    removed: int
    changed: int
    cells: Mapping[str, int]
    drift: Mapping[str, float]
    examples: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        counts = f"{self.added} rows added, {self.removed} removed, {self.changed} changed"
        return f"{counts} ({self.before} -> {self.after})" + "".join(f"; {example}" for example in self.examples)


def compare(before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str] = ("before", "after")) -> Change:
    """What changed between two tables of players; columns that only one of them has count as changed nowhere."""
    old, new = before.set_index(KEY), after.set_index(KEY)
    both = old.index.intersection(new.index)
    columns = [column for column in new if column in old]
    a, b = old.loc[both, columns], new.loc[both, columns]
    differs = ~((a == b) | (a.isna() & b.isna()))
    cells = differs.sum()
    rows = differs.any(axis=1)
    examples = []
    for index in both[rows][:EXAMPLES]:
        column = differs.columns[differs.loc[index]][0]
        examples.append(
            f"{column} of {new.loc[index, 'player_name']}: {a.loc[index, column]} -> {b.loc[index, column]}"
        )
    return Change(
        *names,
        added=len(new.index.difference(old.index)),
        removed=len(old.index.difference(new.index)),
        changed=int(rows.sum()),
        cells={column: int(count) for column, count in cells.items() if count},
        drift=_drift(before, after),
        examples=tuple(examples),
    )


def record(table: pd.DataFrame, source: str, folder: Path) -> list[Change]:
    """Compare each season of a table with the last version under `folder`, say what changed, keep the new version.

    `folder`/<season>.csv is the last version, <season>.json the last change; a season without one is only kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for season, part in table.groupby("season"):
        last, change_file = folder / f"{season}.csv", folder / f"{season}.json"
        text = part.to_csv(index=False)
        before = _read(last)
        facts = _facts(change_file)
        if before is not None and last.read_text() != text:
            # Read back as the last version was, so that types do not differ where values do not.
            change = compare(before, _parse(text), (facts["source"], source))
            if change:
                log.warning("season %s: the data has changed: %s", season, change)
                found.append(change)
                facts["change"] = asdict(change)
        facts["source"] = source
        _write(last, text)
        _write(change_file, json.dumps(facts, indent=1))
    return found


def last_change(season: int, folder: Path) -> dict[str, Any] | None:
    """The last change that `record` found in a season, as a dictionary of Change's fields."""
    return _facts(folder / f"{season}.json").get("change")


def _drift(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
    numbers = [column for column in after.select_dtypes("number") if column in before.select_dtypes("number")]
    moved = {}
    for column in numbers:
        spread = before[column].std()
        shift = after[column].mean() - before[column].mean()
        if np.isfinite(shift) and abs(shift) > 1e-9 and column not in KEY:
            moved[str(column)] = float(shift / spread) if spread > 0 else float("inf")
    return moved


def _parse(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), keep_default_na=False, na_values=[""])


def _read(path: Path) -> pd.DataFrame | None:
    try:
        return _parse(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _facts(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return {"source": "an earlier download"}


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    os.replace(part, path)
