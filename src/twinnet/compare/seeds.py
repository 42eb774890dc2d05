"""Configurations over their seeds, from the runs of the tracking store, so that sweeps count.

The table of runs is that of `tracking.runs_table`: one row a run, the oldest first, with the columns NEEDED and
metrics under the contract's names (`test/accuracy`, `valid/loss`, `seconds`, ...). `configuration` is a hash that
leaves out the seed. Of several runs with the same seed the last one counts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twinnet.compare.report import WIDTH, table_of
from twinnet.compare.statistics import seeds_interval
from twinnet.core.errors import DataError

GROUP = ["dataset", "data_source", "data_digest", "experiment", "configuration"]
NEEDED = [*GROUP, "seed", "status", "engine", "device", "overrides"]
SHOWN = 20  # rows of each data set in Markdown and on the terminal; the CSV has them all
COLUMNS = [
    "dataset", "data_source", "data_digest", "experiment", "configuration", "overrides", "seeds", "score", "mean",
    "sd", "low", "high", "confidence", "loss", "loss_sd", "seconds", "engine", "device",
]  # fmt: skip
LEFT_OUT = ("seed=", "experiment=", "hydra.", "tracking")  # overrides that do not tell configurations apart


def over_seeds(runs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """One row a configuration, the best of each data set first; `mean` and `sd` are of the evaluation split.

    `score` names what is averaged: accuracy (mae for regression) of the test split where there is one, else of the
    validation split. `sd` is the sample standard deviation, `low` and `high` bound the mean at `confidence` (Student's
    t); all three are empty for a single seed. Raises DataError for a table without the columns it needs.
    """
    if missing := [name for name in NEEDED if name not in runs]:
        raise DataError(f"expected a table of runs with the columns {', '.join(NEEDED)}; {', '.join(missing)} missing")
    finished = runs[runs["status"] == "FINISHED"].drop_duplicates([*GROUP, "seed"], keep="last")
    rows = [
        _row(dict(zip(GROUP, key, strict=True)), group, confidence)
        for key, group in finished.groupby(GROUP, sort=False, dropna=False)
    ]
    table = pd.DataFrame([row for row in rows if row], columns=COLUMNS)
    better = table["mean"].where(table["score"].str.endswith("/mae"), -table["mean"])
    table = table.assign(better=better, stand_in=table["data_source"] == "synthetic")
    return table.sort_values(["stand_in", "dataset", "better", "experiment"], ignore_index=True)[COLUMNS]


def _row(key: dict[str, object], group: pd.DataFrame, confidence: float) -> dict[str, object] | None:
    """Mean and standard deviation of a configuration's runs; None where no run has a score."""
    candidates = [f"{split}/{metric}" for split in ("test", "valid") for metric in ("accuracy", "mae")]
    score = next((name for name in candidates if name in group and group[name].notna().any()), None)
    if score is None:
        return None
    scored = group[group[score].notna()]
    low, high = seeds_interval(scored[score].to_numpy(dtype=float), confidence)
    loss = scored.get(f"{score.partition('/')[0]}/loss", pd.Series(dtype=float))
    return key | {
        "seeds": len(scored),
        "score": score,
        "mean": scored[score].mean(),
        "sd": scored[score].std(),
        "low": low,
        "high": high,
        "confidence": confidence,
        "loss": loss.mean(),
        "loss_sd": loss.std(),
        "seconds": scored.get("seconds", pd.Series(dtype=float)).mean(),
        "engine": ", ".join(sorted(set(scored["engine"].astype(str)))),
        "device": ", ".join(sorted(set(scored["device"].astype(str)))),
        "overrides": _settings(str(scored["overrides"].iloc[-1])),
    }


def _settings(overrides: str) -> str:
    """What was asked for besides the experiment and the seed."""
    return " ".join(part for part in overrides.split() if not part.lstrip("+~").startswith(LEFT_OUT))


def markdown(table: pd.DataFrame) -> str:
    """seeds.md: the first rows of each data set."""
    parts = [
        "# Configurations over their seeds",
        "Mean ± standard deviation over the seeds of one configuration, from all finished runs of the tracking store. "
        "The standard deviation is that of training again with another seed; it says nothing about other data. The "
        "interval is that of the mean, by Student's t: at 95% unless `compare.confidence` says otherwise.",
    ]
    for (dataset, source), rows in table.groupby(["dataset", "data_source"], sort=False):
        parts.append(f"## {dataset}{', synthetic stand-in data' if source == 'synthetic' else f' ({source})'}")
        parts.append(table_of([_cells(row) for row in rows.head(SHOWN).to_dict("records")]))
        if len(rows) > SHOWN:
            parts.append(f"{len(rows) - SHOWN} more configurations are in seeds.csv.")
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> dict[str, str]:
    percent = str(row["score"]).endswith("accuracy")
    return {
        "experiment": str(row["experiment"]),
        "configuration": f"`{str(row['configuration'])[:8]}` {row['overrides']}".strip(),
        "seeds": str(row["seeds"]),
        "score": str(row["score"]),
        "mean ± sd": _spread(row["mean"], row["sd"], percent),
        "interval": _bounds(row["low"], row["high"], percent),
        "loss": _spread(row["loss"], row["loss_sd"], False),
        "seconds": "" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
        "engine": str(row["engine"]),
        "device": str(row["device"]),
    }


def _spread(mean: object, sd: object, percent: bool) -> str:
    def number(value: object) -> str:
        return f"{value:.2%}" if percent else f"{value:.4f}"

    if pd.isna(mean):
        return ""
    return number(mean) if pd.isna(sd) else f"{number(mean)} ± {number(sd)}"


def _bounds(low: float, high: float, percent: bool) -> str:
    if pd.isna(low):
        return ""
    return f"{100 * low:.2f} to {100 * high:.2f}" if percent else f"{low:.4f} to {high:.4f}"


def text(table: pd.DataFrame) -> str:
    """The configurations of at least two seeds, at most 100 columns wide; empty where there are none."""
    several = table[table["seeds"] > 1]
    lines = []
    for (dataset, source), rows in several.groupby(["dataset", "data_source"], sort=False):
        interval = f"{rows['confidence'].iloc[0]:.0%} interval of the mean"
        lines += ["", f"{dataset}, data from {source}: mean ± sd over seeds, {interval}"]
        settings = _telling(rows["overrides"])
        for row, told in zip(rows.head(SHOWN).to_dict("records"), settings, strict=False):
            name = f"{row['experiment']} {told or str(row['configuration'])[:8]}"
            cells = _cells(row)
            spread = f"{cells['mean ± sd']:<17}{cells['interval']:<17}"
            lines.append(f"  {row['score']:<15}{spread}{row['seeds']:>3} seeds  {name}"[:WIDTH])
        if len(rows) > SHOWN:
            lines.append(f"  {len(rows) - SHOWN} more are in seeds.csv")
    return "\n".join(lines[1:])


def _telling(overrides: Sequence[str]) -> list[str]:
    """Of each row's settings those that not all rows share, without the groups of their names."""
    rows = [told.split() for told in overrides]
    shared = set(rows[0]).intersection(*rows) if len(rows) > 1 else set()
    return [" ".join(_without_group(part) for part in row if part not in shared) for row in rows]


def _without_group(override: str) -> str:
    """`optimizer.learning_rate=0.1` to `learning_rate=0.1`."""
    key, equals, value = override.partition("=")
    return key.rpartition(".")[2] + equals + value


def write(table: pd.DataFrame, reports: Path) -> Sequence[Path]:
    """seeds.csv and seeds.md in `reports`: beside the comparison, which is made from runs/ alone."""
    reports.mkdir(parents=True, exist_ok=True)
    csv, md = reports / "seeds.csv", reports / "seeds.md"
    table.to_csv(csv, index=False)
    md.write_text(markdown(table))
    return csv, md
