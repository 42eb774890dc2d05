"""The comparison in words: Markdown for people who read files, plain text for a terminal."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from twinnet.compare.tables import MAX_SHOWN, NO_DIFFERENCE, sections
from twinnet.core.errors import DataError
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.figures.run import SPLIT_NAMES

WIDTH = 100  # columns of a terminal
P_MIN = 1e-300  # smaller p-values underflow
LEFT_OUT = ("samples", "calibration error", "epochs", "data source")  # on a terminal
Row = Mapping[Any, Any]


def markdown(board: pd.DataFrame, pairs: pd.DataFrame, figures: Mapping[str, Sequence[str]]) -> str:
    """Return comparison.md; `figures` are paths relative to it, by the key of their section."""
    parts = [
        "# Comparison of the runs",
        f"Intervals are {board['confidence'].iloc[0]:.0%} ones: Wilson's for an accuracy, a bootstrap for a mean "
        "absolute error. Two runs are called different only if both McNemar's exact test, corrected by Holm for the "
        "number of pairs of the data set, and the paired bootstrap of the difference, whose intervals hold for all "
        "those pairs at once, say so. That is about two trained networks; `python -m twinnet.compare` after a sweep "
        "of seeds compares configurations. Losses are comparable between runs that train the same loss. The "
        "calibration error is the mean distance of confidence and accuracy.",
    ]
    for section, rows in sections(board):
        if section.is_synthetic and "# Synthetic data" not in parts:
            parts += ["# Synthetic data", f"**{SYNTHETIC_NOTE.capitalize()}.**"]
        parts.append(f"## {section.title}")
        parts.append(markdown_table(_board_cells(row) for row in rows.to_dict("records")))
        parts += [f"- **{row.experiment}** {row.note}" for row in rows.itertuples() if row.note]
        if not section.is_regression:
            parts += _pair_parts(rows, _of_section(pairs, rows))
        if len(rows) > MAX_SHOWN:
            parts.append(f"Pairs and figures are of the {MAX_SHOWN} best runs of {len(rows)}.")
        parts += [f"![{Path(path).stem}]({path})" for path in figures[section.key]]
    return "\n\n".join(parts) + "\n"


def _board_cells(row: Row) -> dict[str, str]:
    of_classes = row["task"] == "classes"
    cells = {
        "experiment": row["experiment"] + (" (degenerate)" if row["degenerate"] else ""),
        _metric(row): _score(row),
        f"{row['confidence']:.0%} interval": interval(row, of_classes),
        "samples": samples(row),
        "loss": _loss(row),
    }
    cells |= {"calibration error": f"{row['ece']:.1%}"} if of_classes else {}
    return cells | {
        "parameters": f"{row['parameters']:,}",
        "epochs": f"{row['epochs']:,}",
        "seconds": f"{row['seconds']:,.1f}",
        "engine": row["engine"],
        "device": row["device"],
        "data source": row["data_source"],
    }


def samples(row: Row) -> str:
    """Return the number of samples and the split of a row of the leaderboard: 10,000 test."""
    return f"{row['samples']:,} {SPLIT_NAMES[row['split']]}"


def _metric(row: Row) -> str:
    return "accuracy" if row["task"] == "classes" else "mae"


def _score(row: Row) -> str:
    return f"{row['accuracy']:.2%}" if row["task"] == "classes" else f"{row['mae']:.4g}"


def interval(row: Row, percent: bool) -> str:
    """Return the interval of a row, 92.83 to 93.81% or 0.55 to 0.7079; empty if it has none."""
    if pd.isna(row["low"]):
        return ""
    return (
        f"{100 * row['low']:.2f} to {100 * row['high']:.2f}%" if percent else f"{row['low']:.4g} to {row['high']:.4g}"
    )


def _loss(row: Row) -> str:
    return "–" if row["degenerate"] else f"{row['loss']:.4f}"  # that of a degenerate run is 0 whatever it predicts


def _of_section(pairs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return pairs[pairs["first"].isin(rows["experiment"])]  # a name is a folder: of one run alone


def _pair_parts(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    parts, shown = [], min(len(rows), MAX_SHOWN)
    if len(pairs):
        parts.append("### Pairs\n\n" + markdown_table(_pair_cells(row) for row in pairs.to_dict("records")))
    if left_out := shown * (shown - 1) // 2 - len(pairs):
        parts.append(f"{left_out} pairs are not compared: their runs predicted different samples.")
    return parts


def _pair_cells(row: Row) -> dict[str, str]:
    p = row["p_corrected"]
    return {
        "first": row["first"],
        "second": row["second"],
        "difference": f"{100 * row['difference']:+.2f} points",
        "interval": f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
        "only first right": f"{row['only_first']:,}",
        "only second right": f"{row['only_second']:,}",
        "p, corrected": f"< {P_MIN:g}" if p < P_MIN else f"{p:.2g}",
        "verdict": row["verdict"] if row["verdict"] == NO_DIFFERENCE else f"**{row['verdict']}**",
    }


def markdown_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Return rows of texts with the same keys as a Markdown table, numbers to the right."""
    table = pd.DataFrame(list(rows)).map(lambda cell: cell.replace("|", "\\|"))
    align = ["right" if _are_numbers(table[name]) else "left" for name in table]
    return table.to_markdown(index=False, disable_numparse=True, colalign=align)


def text_table(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Return rows of texts with the same keys as lines for a terminal: numbers to the right, long texts cut."""
    frame = pd.DataFrame(list(rows))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in frame:
        numbers = _are_numbers(frame[name])
        table.add_column(str(name), justify="right" if numbers else "left", no_wrap=numbers, overflow="ellipsis")
    for cells in frame.itertuples(index=False):
        table.add_row(*cells)
    console = Console(file=StringIO(), width=WIDTH - 2, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [f"  {line.rstrip()}" for line in captured.get().splitlines()]


def _are_numbers(column: pd.Series) -> bool:
    return bool(column.str.fullmatch(r"(?:[-+<–]? ?\d.*|–|)").all())


# ------------------------------------------------------------------------------------------------ plain text


def leaderboard_text(comparison: Path) -> str:
    """Return the leaderboard of the folder `comparison`, at most 100 columns wide.

    Raises DataError if there is no comparison yet.
    """
    try:
        board = pd.read_csv(
            comparison / "comparison.csv",
            keep_default_na=False,  # a name may be NA, or a number
            na_values=dict.fromkeys(["mae", "accuracy", "ece"], ""),
            dtype=dict.fromkeys(["data_set", "experiment"], str),
        )
        names = dict.fromkeys(["data_set", "first", "second"], str)
        pairs = pd.read_csv(comparison / "pairs.csv", keep_default_na=False, dtype=names)
    except FileNotFoundError as error:
        raise DataError(f"expected {error.filename}; found none; run `dvc repro compare`") from error
    lines = []
    for section, rows in sections(board):
        of_rows = rows.to_dict("records")
        evaluated, sources = (", ".join(dict.fromkeys(words)) for words in (map(samples, of_rows), rows["data_source"]))
        lines += ["", f"{section.title}: {evaluated} samples, data from {sources}"]
        if section.is_synthetic:
            lines.append(f"SYNTHETIC: {SYNTHETIC_NOTE}")
        lines += text_table(_text_cells(row) for row in of_rows)
        for row in of_rows:
            if row["note"]:
                lines += _wrapped(f"* {row['experiment']} {row['note']}")
        if not section.is_regression:
            lines += _pair_lines(_of_section(pairs, rows))
    return "\n".join(lines[1:])


def _text_cells(row: Row) -> dict[str, str]:
    cells = _board_cells(row).items()
    return {name.replace("parameters", "params"): cell for name, cell in cells if name not in LEFT_OUT} | {
        "experiment": row["experiment"] + ("*" if row["note"] else ""),
        "engine": row["engine"].replace("tensorflow", "tf"),
        "device": re.split("[:,]", row["device"])[0],
    }


def _pair_lines(pairs: pd.DataFrame) -> list[str]:
    """Return the pairs that do not differ; the others are in the order of the table."""
    if pairs.empty:
        return []
    same = [f"{row.first} and {row.second}" for row in pairs.itertuples() if row.verdict == NO_DIFFERENCE]
    if not same:
        return _wrapped("a difference is shown in every pair: the upper run is better")
    return _wrapped(f"{NO_DIFFERENCE} in {len(same)} of {len(pairs)} pairs: {'; '.join(same)}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
