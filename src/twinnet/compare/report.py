"""The comparison in words: Markdown for people who read files, plain text for a terminal."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from twinnet.compare.tables import NO_DIFFERENCE
from twinnet.core.errors import DataError

WIDTH = 100  # columns of a terminal
SPLITS = {"valid": "validation", "test": "test"}
STAND_IN = "synthetic stand-in data: drawn by a program, not measured, so it says nothing about the real data set"


def section(data_set: str, stand_in: bool, task: str) -> str:
    """The name of a table in file names: a stand-in is never taken for the real one."""
    return f"{data_set}{'_stand_in' if stand_in else ''}{'_regression' if task == 'regression' else ''}"


def title(data_set: str, stand_in: bool, task: str) -> str:
    return f"{data_set}{' (stand-in)' if stand_in else ''}{', regression' if task == 'regression' else ''}"


def sections(board: pd.DataFrame) -> Iterator[tuple[tuple[str, bool, str], pd.DataFrame]]:
    """(data set, stand-in, task) and the rows of each table of the leaderboard, in its order."""
    for (data_set, stand_in, task), rows in board.groupby(["data_set", "stand_in", "task"], sort=False):
        yield (str(data_set), bool(stand_in), str(task)), rows


# ------------------------------------------------------------------------------------------------- Markdown


def markdown(board: pd.DataFrame, pairs: pd.DataFrame, figures: Mapping[str, Sequence[str]]) -> str:
    """comparison.md; `figures` are paths relative to it, for each section."""
    confidence = board["confidence"].iloc[0]
    parts = [
        "# Comparison of the runs",
        f"Intervals are {confidence:.0%} ones: Wilson's for an accuracy, a bootstrap for a mean absolute error. "
        "Two runs are called different only where McNemar's exact test, corrected by Holm for the number of pairs of "
        "the data set, and the paired bootstrap of the difference, whose intervals hold for all those pairs together, "
        "both say so. That is about two trained networks; which configuration is better in general shows over several "
        "seeds (`python -m twinnet.compare` after a sweep of seeds). Losses are comparable between runs "
        "that train the same loss. The calibration error is how far confidence and accuracy lie apart on average.",
    ]
    told_stand_ins = False
    for (data_set, stand_in, task), rows in sections(board):
        if stand_in and not told_stand_ins:
            parts += ["# On stand-in data", f"**{STAND_IN.capitalize()}.**"]
            told_stand_ins = True
        parts.append(f"## {title(data_set, stand_in, task)}")
        parts.append(_board_table(rows, task))
        parts += [f"- **{row.experiment}** {row.note}" for row in rows.itertuples() if row.note]
        if task == "classes":
            parts += _pair_parts(rows, pairs[(pairs["data_set"] == data_set) & (pairs["stand_in"] == stand_in)])
        parts += [f"![{Path(path).stem}]({path})" for path in figures[section(data_set, stand_in, task)]]
    return "\n\n".join(parts) + "\n"


def _board_table(rows: pd.DataFrame, task: str) -> str:
    score = "accuracy" if task == "classes" else "mae"
    table = []
    for row in rows.itertuples():
        interval = f"{row.low:.2%} to {row.high:.2%}" if task == "classes" else f"{row.low:.4g} to {row.high:.4g}"
        cells = {
            "experiment": row.experiment + (" (degenerate)" if row.note else ""),
            score: f"{row.accuracy:.2%}" if task == "classes" else f"{row.mae:.4g}",
            f"{row.confidence:.0%} interval": interval,
            "samples": f"{row.samples:,} {SPLITS[row.split]}",
            "loss": f"{row.loss:.4f}",
        }
        cells |= {"calibration error": f"{row.ece:.1%}"} if task == "classes" else {}
        table.append(
            cells
            | {
                "parameters": f"{row.parameters:,}",
                "epochs": f"{row.epochs:,}",
                "seconds": f"{row.seconds:.1f}",
                "engine": row.engine,
                "device": row.device,
                "data source": row.data_source,
            }
        )
    return table_of(table)


def _pair_parts(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    if len(rows) < 2:
        return []
    parts = []
    if len(pairs):
        parts.append(f"### Pairs\n\n{_pair_table(pairs)}")
    if left_out := len(rows) * (len(rows) - 1) // 2 - len(pairs):
        parts.append(f"{left_out} pairs are not compared: their runs predicted different samples.")
    return parts


def _pair_table(pairs: pd.DataFrame) -> str:
    return table_of(
        {
            "first": row.first,
            "second": row.second,
            "difference": f"{100 * row.difference:+.2f} points",
            "interval": f"{100 * row.low:+.2f} to {100 * row.high:+.2f}",
            "only first right": f"{row.only_first:,}",
            "only second right": f"{row.only_second:,}",
            "p, corrected": f"{row.p_corrected:.2g}",
            "verdict": row.verdict if row.verdict == NO_DIFFERENCE else f"**{row.verdict}**",
        }
        for row in pairs.itertuples()
    )


def table_of(rows: Iterator[Mapping[str, str]] | Sequence[Mapping[str, str]]) -> str:
    """A Markdown table; every row has the same keys. Numbers stand to the right."""
    rows = list(rows)
    names = list(rows[0])
    right = [all(row[name][:1] in "+-0123456789" for row in rows) for name in names]
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---:" if r else "---" for r in right) + " |"]
    lines += ["| " + " | ".join(row[name].replace("|", "\\|") for name in names) + " |" for row in rows]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ plain text


def leaderboard_text(reports: Path) -> str:
    """The leaderboard of comparison.csv and pairs.csv in `reports`, at most 100 columns wide.

    Raises DataError where there is no comparison yet.
    """
    try:
        board = pd.read_csv(reports / "comparison.csv", keep_default_na=False, na_values={"mae": "", "accuracy": ""})
        pairs = pd.read_csv(reports / "pairs.csv")
    except FileNotFoundError as error:
        raise DataError(f"expected {error.filename}; found none; run `dvc repro compare`") from error
    lines = []
    for (data_set, stand_in, task), rows in sections(board):
        sources = ", ".join(dict.fromkeys(rows["data_source"]))
        splits = ", ".join(dict.fromkeys(f"{row.samples:,} {SPLITS[row.split]}" for row in rows.itertuples()))
        lines += ["", f"{title(data_set, stand_in, task)}: {splits} samples, data from {sources}"]
        if stand_in:
            lines += textwrap.wrap(f"STAND-IN: {STAND_IN}", WIDTH)
        lines += _plain_table(rows, task)
        for row in rows.itertuples():
            if row.note:
                lines += _wrapped(f"* {row.experiment} {row.note}")
        if task == "classes":
            lines += _plain_pairs(rows, pairs[(pairs["data_set"] == data_set) & (pairs["stand_in"] == stand_in)])
    return "\n".join(lines[1:])


def _plain_table(rows: pd.DataFrame, task: str) -> list[str]:
    """Columns as wide as they need to be; names are cut where the lines would not fit."""
    score, interval = "accuracy" if task == "classes" else "mae", f"{rows['confidence'].iloc[0]:.0%} interval"
    table = [("experiment", score, interval, "loss", "params", "seconds", "engine", "device")]
    for row in rows.itertuples():
        if task == "classes":
            value, bounds = f"{row.accuracy:.2%}", f"{100 * row.low:.1f} to {100 * row.high:.1f}"
        else:
            value, bounds = f"{row.mae:.4g}", f"{row.low:.3g} to {row.high:.3g}"
        name = row.experiment + (" *" if row.note else "")
        numbers = (value, bounds, f"{row.loss:.4f}", f"{row.parameters:,}", f"{row.seconds:,.1f}")
        table.append((name, *numbers, row.engine.replace("tensorflow", "tf"), row.device.partition(":")[0]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths))
    lines = []
    for name, *middle, engine, device in table:
        cells = [_cut(name, widths[0]).ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(middle, widths[1:-2], strict=True)]
        lines.append("  " + "  ".join([*cells, engine.ljust(widths[-2]), device]))
    return lines


def _plain_pairs(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """Which pairs do not differ; the others are in the order of the table."""
    if len(rows) < 2 or pairs.empty:
        return []
    same = [f"{row.first} and {row.second}" for row in pairs.itertuples() if row.verdict == NO_DIFFERENCE]
    if not same:
        return _wrapped("a difference is shown in every pair: the upper run is better")
    return _wrapped(f"{NO_DIFFERENCE} in {len(same)} of {len(pairs)} pairs: {'; '.join(same)}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
