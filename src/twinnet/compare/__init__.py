"""Finished runs beside each other: a leaderboard with intervals, and differences only where they are shown."""

from collections.abc import Sequence
from pathlib import Path

from twinnet.compare import write
from twinnet.compare.images import PredictedImages
from twinnet.compare.report import leaderboard_text
from twinnet.core.schema import Compare
from twinnet.training.run import read_runs

__all__ = ["compare", "leaderboard_text"]


def compare(
    runs: Path,
    reports: Path,
    settings: Compare | None = None,
    *,
    names: Sequence[str] | None = None,
    root: Path = Path(),
) -> None:
    """Compare the runs under `runs` (those named, or all) and write what was found to `reports`.

    From the files of the runs alone: comparison.csv and comparison.md, pairs.csv, per_class.csv, metrics.json,
    figures/*.png, and plots/ for DVC. The images of mistakes come from data/processed/ under `root`.

    Raises DataError, in one line, where there is no run, one is missing, incomplete or contradicts itself.
    """
    write.write(read_runs(runs, names), reports, settings or Compare(), PredictedImages(root))
