"""Configurations averaged over their seeds, from the runs of the tracking store.

The table of runs is that of `tracking.search_runs.runs_table`: one row a run, the oldest first, with metrics under the
contract's names (`test/accuracy`, `valid/loss`, `seconds`, ...). Of several runs with the same seed the last counts.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from twinnet.compare.report import interval, markdown_table, text_table
from twinnet.compare.statistics import seeds_interval
from twinnet.core.paths import write_text
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE

GROUP = ["dataset", "data_source", "data_digest", "experiment", "configuration"]
SHOWN = 20  # rows of each data set in Markdown and on the terminal; the CSV has them all
COLUMNS = [
    "dataset", "data_source", "data_digest", "experiment", "configuration", "overrides", "seeds", "score", "mean",
    "sd", "low", "high", "confidence", "loss", "loss_sd", "seconds", "engine", "device",
]  # fmt: skip
NOT_SETTINGS = ("name", "description", "seed")  # parameters in which seeds of one configuration may differ
LEFT_OUT = ("seed=", "experiment=", "hydra.", "tracking")  # overrides that configurations share


def over_seeds(runs: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """One row a configuration, the best of each data set first; `mean` and `sd` are of the evaluation split.

    `score` names what is averaged: accuracy (mae for regression) of the test split if there is one, else of the
    validation split. `sd` is the sample standard deviation, `low` and `high` bound the mean at `confidence` (Student's
    t); all three are empty for a single seed.
    """
    finished = runs[runs["status"] == "FINISHED"].drop_duplicates([*GROUP, "seed"], keep="last")
    rows = [
        _row(dict(zip(GROUP, key, strict=True)), group, confidence)
        for key, group in finished.groupby(GROUP, sort=False, dropna=False)
    ]
    table = pd.DataFrame(_name_settings([row for row in rows if row]), columns=COLUMNS)
    better = table["mean"].where(table["score"].str.endswith("/mae"), -table["mean"])
    table = table.assign(better=better, synthetic=table["data_source"] == SYNTHETIC)
    return table.sort_values(["synthetic", "dataset", "better", "experiment"], ignore_index=True)[COLUMNS]


def _row(key: dict[str, object], group: pd.DataFrame, confidence: float) -> dict[str, object] | None:
    """Mean and standard deviation of a configuration's runs; None if no run has a score."""
    candidates = [f"{split}/{metric}" for split in ("test", "valid") for metric in ("accuracy", "mae")]
    score = next((name for name in candidates if name in group and group[name].notna().any()), None)
    if score is None:
        return None
    scored = group[group[score].notna()]
    low, high = seeds_interval(scored[score].to_numpy(dtype=float), confidence)
    loss = scored[f"{score.partition('/')[0]}/loss"]
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
        "seconds": scored["seconds"].mean(),
        "engine": ", ".join(sorted(set(scored["engine"].astype(str)))),
        "device": ", ".join(sorted(set(scored["device"].astype(str)))),
        "overrides": _settings(str(scored["overrides"].iloc[-1])),
        "settings": scored["settings"].iloc[-1],
    }


def _name_settings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill in the overrides of runs without any (of `dvc exp run`): the settings that differ within the experiment."""
    values = defaultdict[tuple[str, str], set[str]](set)  # (experiment, key) -> its values
    for row in rows:
        for key, value in row["settings"].items():
            values[row["experiment"], key].add(str(value))
    for row in rows:
        if not row["overrides"]:
            differing = [
                f"{key}={value}"
                for key, value in row["settings"].items()
                if key not in NOT_SETTINGS and len(values[row["experiment"], key]) > 1
            ]
            row["overrides"] = " ".join(part for part in differing if " " not in part)
    return rows


def _settings(overrides: str) -> str:
    """Return the overrides other than the experiment and the seed."""
    return " ".join(part for part in overrides.split() if not part.lstrip("+~").startswith(LEFT_OUT))


def markdown(table: pd.DataFrame) -> str:
    """Return seeds.md: the first rows of each data set."""
    parts = [
        "# Configurations over their seeds",
        "Mean ± standard deviation over the seeds of one configuration, from all finished runs of the tracking store. "
        "The standard deviation is that of another training with another seed; it says nothing about other data. The "
        "interval is that of the mean, by Student's t: at 95% unless `compare.confidence` says otherwise.",
    ]
    for (dataset, source), rows in table.groupby(["dataset", "data_source"], sort=False):
        parts.append(f"## {dataset}, {SYNTHETIC_NOTE if source == SYNTHETIC else f'data from {source}'}")
        parts.append(markdown_table(_markdown_cells(row) for row in rows.head(SHOWN).to_dict("records")))
        if len(rows) > SHOWN:
            parts.append(f"{len(rows) - SHOWN} more configurations are in seeds.csv.")
    return "\n\n".join(parts) + "\n"


def _markdown_cells(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "experiment": str(row["experiment"]),
        "configuration": f"`{str(row['configuration'])[:8]}` {row['overrides']}".strip(),
        **_score_cells(row),
        "loss": _spread(row["loss"], row["loss_sd"], False),
        "seconds": "" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}",
        "engine": str(row["engine"]),
        "device": str(row["device"]),
    }


def _score_cells(row: dict[Any, Any]) -> dict[str, str]:
    percent = str(row["score"]).endswith("accuracy")
    return {
        "score": str(row["score"]),
        "mean ± sd": _spread(row["mean"], row["sd"], percent),
        "interval": interval(row, percent),
        "seeds": str(row["seeds"]),
    }


def _spread(mean: object, sd: object, percent: bool) -> str:
    def number(value: object) -> str:
        return f"{value:.2%}" if percent else f"{value:.4f}"

    if pd.isna(mean):
        return ""
    return number(mean) if pd.isna(sd) else f"{number(mean)} ± {number(sd)}"


def text(table: pd.DataFrame) -> str:
    """Return the configurations of at least two seeds, at most 100 columns wide; empty if there are none."""
    several = table[table["seeds"] > 1]
    lines = []
    for (dataset, source), rows in several.groupby(["dataset", "data_source"], sort=False):
        shared, own = _split_overrides(rows["overrides"])
        heading = f"{dataset}, data from {source}: mean ± sd over seeds"
        lines += ["", f"{heading}, {rows['confidence'].iloc[0]:.0%} interval of the mean"]
        lines += [f"  all with {shared}"] if shared else []
        lines += text_table(
            _score_cells(row) | {"experiment": row["experiment"], "settings": overrides or row["configuration"][:8]}
            for row, overrides in zip(rows.head(SHOWN).to_dict("records"), own, strict=False)
        )
        if len(rows) > SHOWN:
            lines.append(f"  {len(rows) - SHOWN} more are in seeds.csv")
    return "\n".join(lines[1:])


def _split_overrides(overrides: Iterable[str]) -> tuple[str, list[str]]:
    """Return the overrides that all rows share, and the others of each row, all without the groups of their names."""
    rows = [row.split() for row in overrides]
    shared = [part for part in rows[0] if all(part in row for row in rows)] if len(rows) > 1 else []
    own = [" ".join(_without_group(part) for part in row if part not in shared) for row in rows]
    return " ".join(map(_without_group, shared)), own


def _without_group(override: str) -> str:
    """`optimizer.learning_rate=0.1` to `learning_rate=0.1`."""
    key, equals, value = override.partition("=")
    return key.rpartition(".")[2] + equals + value


def write_seeds(table: pd.DataFrame, reports: Path) -> None:
    """Write seeds.csv and seeds.md to `reports`, beside the comparison, which is made from runs/ alone."""
    write_text(reports / "seeds.csv", table.to_csv(index=False))
    write_text(reports / "seeds.md", markdown(table))
