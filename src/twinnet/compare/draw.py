"""The pictures of finished runs, drawn from their files, their data and their networks."""

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

from twinnet.core import paths, provenance
from twinnet.core.errors import DataError, TwinnetError
from twinnet.core.schema import season_name
from twinnet.core.splits import Splits
from twinnet.figures.run import has_boundary, run_figures
from twinnet.figures.style import BLUE, FONTS, save_all
from twinnet.training.dataset import load_splits
from twinnet.training.fingerprint import code_hash
from twinnet.training.run import FULL_HISTORY, Run

log = logging.getLogger(__name__)

CACHE = Path("build/figures")


def draw_run(run: Run, root: Path | None = None) -> list[Path]:
    """Draw the run's figures to figures/ in its folder and return their paths.

    Return [] (logged) if data/processed/ does not hold what the run predicted.
    """
    return save_all(_figures(run, _SplitsReader(root or paths.root())), run.directory / "figures")


def draw_runs(
    runs: Sequence[Run], directory: Path, colours: Mapping[str, str], figure_cache: "FigureCache"
) -> dict[str, list[Path]]:
    """Draw the figures of each run to `directory`/<run> in its colour; return their paths by run."""
    read, drawn = _SplitsReader(figure_cache.root), {}
    for run in sorted(runs, key=_data):
        colour = colours.get(run.name, BLUE)
        figures = partial(_figures, run, read, colour)
        drawn[run.name] = figure_cache.draw([colour, *figure_cache.key(run)], directory / run.name, figures)
    return drawn


class FigureCache:
    """The figures of the last comparison, in build/figures/, a folder for each hash of what they depend on."""

    def __init__(self, root: Path) -> None:
        self.root, self.used = root, set[Path]()
        self.key = cache(self._key)

    def draw(self, parts: Sequence[object], folder: Path, figures: Callable[[], Mapping[str, Figure]]) -> list[Path]:
        """Copy to `folder` what was drawn from the same `parts` (JSON), else draw it; return the paths, sorted."""
        hashed = hashlib.sha256(json.dumps([*parts, FONTS, version("matplotlib")]).encode()).hexdigest()
        entry = self.root / CACHE / hashed[:24]
        self.used.add(entry)
        if entry.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            return [Path(shutil.copy(file, folder)) for file in sorted(entry.iterdir())]
        if not (drawn := sorted(save_all(figures(), folder))):
            return []
        part = entry.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):  # no room, no permission, or another process has drawn it
            part.mkdir(parents=True)
            for file in drawn:
                shutil.copy(file, part)
            part.rename(entry)
        return drawn

    def drop_unused(self) -> None:
        """Remove the entries that this comparison did not use."""
        for stale in set((self.root / CACHE).glob("*")) - self.used:
            shutil.rmtree(stale, ignore_errors=True)

    def _key(self, run: Run) -> list[object]:
        """Return what the figures of a run depend on: its name, its files, the data, and the code that draws them."""
        try:
            data = provenance.read(run.dataset, self.root, paths.PROCESSED).processed
        except DataError:
            data = {}
        drawn = run.hash_files(FULL_HISTORY, run.model.name)
        of_data = [run.info.data.get("digest"), dict(data), seasons(run.dataset, self.root)]
        code = code_hash(run.experiment.engine.kind, "figures", "compare")
        return [run.name, run.content_hash, drawn, *of_data, code]


@cache
def seasons(dataset: str, root: Path) -> str:
    """Return the seasons in a processed table of players, "2019-20"; empty for other data, or without the table."""
    try:
        with (root / paths.PROCESSED / dataset / "table.csv").open(encoding="utf-8", newline="") as file:
            years = {int(row["season"]) for row in csv.DictReader(file) if row["player_id"]}
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


def _figures(run: Run, read: _SplitsReader, colour: str = BLUE) -> dict[str, Figure]:
    experiment = run.experiment
    try:
        splits = read(run)
    except TwinnetError as error:
        log.warning("%s: no figures are drawn: %s", run.name, error)
        return {}
    predict = run.network().predict if has_boundary(experiment) else None
    history, season = run.full_history(), seasons(run.dataset, read.root)
    return run_figures(experiment, splits, history, run.y_true, run.y_prob, predict, season, colour)
