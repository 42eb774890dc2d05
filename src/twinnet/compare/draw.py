"""The pictures of a finished run, drawn from its files, its data and its network."""

import logging
from pathlib import Path

from twinnet.core import paths
from twinnet.core.errors import DataError
from twinnet.figures.run import draw_figures, has_boundary
from twinnet.training.dataset import load_splits
from twinnet.training.experiment import evaluated_prediction
from twinnet.training.run import Run

log = logging.getLogger(__name__)


def draw_run(run: Run, directory: Path | None = None, root: Path | None = None) -> list[Path]:
    """Draw the run's figures to `directory` (figures/ in its folder) and return their paths.

    None, with a line in the log, if data/processed/ does not hold what the run predicted.
    """
    experiment, root = run.experiment, root or paths.root()
    try:
        splits = load_splits(
            experiment.data, root=root, dtype=experiment.engine.dtype, samples=experiment.limits.samples
        )
    except DataError as error:
        log.warning("%s: no figures are drawn: %s", run.name, error)
        return []
    if splits.digest != run.info.data.get("digest"):
        log.warning("%s: no figures are drawn: its data has changed since; train it again", run.name)
        return []
    predict = evaluated_prediction(experiment, run.network().predict) if has_boundary(experiment) else None
    folder = directory or run.directory / "figures"
    return draw_figures(folder, experiment, splits, run.full_history(), run.y_true, run.y_prob, predict)
