"""The pictures of finished runs, drawn from their files, their data and their networks."""

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError, TwinnetError
from twinnet.core.schema import season_name
from twinnet.core.splits import Splits
from twinnet.figures.run import draw_figures, has_boundary
from twinnet.figures.style import BLUE, FONTS
from twinnet.training.dataset import load_splits
from twinnet.training.fingerprint import code_hash
from twinnet.training.run import FULL_HISTORY, Run

log = logging.getLogger(__name__)

CACHE = Path("build/figures")


def draw_run(run: Run, directory: Path | None = None, root: Path | None = None) -> list[Path]:
    """Draw the run's figures to `directory` (figures/ in its folder) and return their paths.

    None, with a line in the log, if data/processed/ does not hold what the run predicted.
    """
    return _draw(run, directory or run.directory / "figures", _SplitsReader(root or paths.root()))


def draw_runs(runs: Sequence[Run], directory: Path, root: Path, colours: Mapping[str, str]) -> dict[str, list[Path]]:
    """Draw the figures of each run to `directory`/<run> in its colour; return their paths by run.

    Those that the last call drew from the same run, data and code are copied from build/figures/.
    """
    read, drawn, used = _SplitsReader(root), {}, set()
    for run in sorted(runs, key=_data):
        folder, colour = directory / run.name, colours.get(run.name, BLUE)
        cached = root / CACHE / _figures_key(run, root, colour)
        used.add(cached)
        if cached.is_dir():
            shutil.copytree(cached, folder)
        elif _draw(run, folder, read, colour):
            part = cached.with_suffix(f".{os.getpid()}.part")
            with suppress(OSError):  # no room, no permission, or another process has drawn it
                shutil.copytree(folder, part)
                part.rename(cached)
        drawn[run.name] = sorted(folder.glob("*.png"))
    for stale in set((root / CACHE).glob("*")) - used:
        shutil.rmtree(stale, ignore_errors=True)
    return drawn


def _figures_key(run: Run, root: Path, colour: str) -> str:
    """Return the hash of what the figures of a run depend on: its files, the data, and what draws them."""
    try:
        data = provenance.read(run.dataset, root, paths.PROCESSED).processed
    except DataError:
        data = {}
    files = [provenance.sha256(file) for file in (run.directory / FULL_HISTORY, run.model)]
    code = code_hash(run.experiment.engine.kind, "figures", "compare")
    drawn_by = [colour, seasons(run.dataset, root), FONTS, version("matplotlib"), code]
    parts = [run.content_hash, run.info.data.get("digest"), dict(data), *files, *drawn_by]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@cache
def seasons(dataset: str, root: Path) -> str:
    """Return the seasons in a processed table of players, "2019-20"; empty for other data, or without the table."""
    try:
        with (root / paths.PROCESSED / dataset / "table.csv").open(encoding="utf-8", newline="") as file:
            years = {int(row["season"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError):
        return ""
    return ", ".join(map(season_name, sorted(years)))


class _SplitsReader:
    """Reads the splits of a run under `root`; consecutive runs on the same data share one reading."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._data = ""
        self._splits: Splits | None = None

    def __call__(self, run: Run) -> Splits:
        """Raises DataError if the data are missing, or are not those that the run was trained on."""
        experiment = run.experiment
        if self._splits is None or self._data != _data(run):
            self._splits = None  # frees it before the next one is read
            samples = experiment.limits.samples
            self._splits = load_splits(experiment.data, root=self.root, dtype=experiment.engine.dtype, samples=samples)
            self._data = _data(run)
        if self._splits.digest != run.info.data.get("digest"):
            raise DataError("its data has changed since; train it again")
        return self._splits


def _data(run: Run) -> str:
    return f"{run.experiment.data} {run.experiment.engine.dtype} {run.experiment.limits.samples}"


def _draw(run: Run, directory: Path, read: _SplitsReader, colour: str = BLUE) -> list[Path]:
    experiment = run.experiment
    try:
        splits = read(run)
    except TwinnetError as error:
        log.warning("%s: no figures are drawn: %s", run.name, error)
        return []
    predict = run.network().predict if has_boundary(experiment) else None
    history, season = run.full_history(), seasons(run.dataset, read.root)
    return draw_figures(directory, experiment, splits, history, run.y_true, run.y_prob, predict, season, colour)
