"""The figures of one run, from its arrays."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from twinnet.core import rules
from twinnet.core.history import History
from twinnet.core.metrics import predicted_classes
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE
from twinnet.core.schema import Data, Experiment, ImageData, TableData, Task
from twinnet.core.splits import Splits
from twinnet.figures.classes import confusion_matrix, decision_boundary, residuals
from twinnet.figures.curves import learning_curves
from twinnet.figures.images import hardest_pairs, mistake_grid, prediction_grid, sample_grid
from twinnet.figures.style import BLUE

SPLIT_NAMES = {"valid": "validation", "test": "test"}
AXIS_NAMES = {
    "apg": "assists per game",
    "rpg": "rebounds per game",
    "ppg": "points per game",
    "blk": "blocks per game",
    "stl": "steals per game",
    "min": "minutes per game",
    "height_inches": "height in inches",
}


def has_boundary(experiment: Experiment) -> bool:
    """Return whether a decision boundary can be drawn: classes in the plane of two features."""
    data = experiment.data
    return isinstance(data, TableData) and len(data.features) == 2 and data.task is not Task.regression


def axis_names(data: Data) -> dict[str, str]:
    """Return the names on axes of the NBA's columns; none for other data, whose columns may mean something else."""
    return AXIS_NAMES if data.name.startswith("nba") else {}


def unit_of(data: Data) -> str:
    """Return the unit of a regression's target, empty if it is not known."""
    return axis_names(data).get(str(getattr(data, "target", "")), "")


def notes(source: str, experiment: Experiment) -> list[str]:
    """Return the notes of every figure of a run: synthetic data, a degenerate loss; often none."""
    reason = rules.degenerate(experiment)
    return ([SYNTHETIC_NOTE] if source == SYNTHETIC else []) + ([f"does not learn: {reason}"] if reason else [])


def run_figures(
    experiment: Experiment,
    splits: Splits,
    history: History,
    y_true: np.ndarray,
    y_prob: np.ndarray,
    predict: Callable[[np.ndarray], np.ndarray] | None,
    season: str = "",
    colour: str = BLUE,
) -> dict[str, Figure]:
    """Return the figures of one run by the names of their files.

    `y_true` (samples,) and `y_prob` (samples, units) are of the evaluation split; `predict` maps features, scaled as
    the splits are, to activations of the output layer; without it there is no decision boundary. `season` stands in the
    titles; `colour` is that of the run in the comparison.
    """
    data, lines = experiment.data, notes(splits.source, experiment)
    name = f"{experiment.name}{f', {season}' if season else ''}"
    key, X_evaluated, _ = splits.evaluation
    evaluated = f"{len(y_true):,} {SPLIT_NAMES[key]} samples"
    sizes = f"{len(splits.y_train):,} training and {len(splits.y_valid):,} validation samples"
    title = f"{name}: learning curves, {sizes}"
    if data.task is Task.regression:
        unit = unit_of(data)
        return {
            "learning_curves": learning_curves(history, title, lines, colour, unit),
            "residuals": residuals(
                y_true, y_prob[:, 0], f"{name}: residuals, {evaluated}", lines, unit or "value", colour
            ),
        }
    majority = np.bincount(splits.y_valid).max() / len(splits.y_valid) if len(splits.y_valid) else None
    figures = {"learning_curves": learning_curves(history, title, lines, colour, majority=majority)}
    classes, y_pred = data.classes or [], predicted_classes(y_prob)
    title = f"{name}: {np.mean(y_pred == y_true):.2%} right, {evaluated}"
    figures["confusion_matrix"] = confusion_matrix(y_true, y_pred, classes, title, lines)
    if predict and isinstance(data, TableData) and has_boundary(experiment):
        axes = [axis_names(data).get(feature, feature) for feature in data.features]
        title = f"{name}: decision boundary, {sizes}"
        figures["decision_boundary"] = decision_boundary(splits, predict, classes, axes, title, lines)
    if isinstance(data, ImageData):
        figures["samples"] = sample_grid(
            splits.X_train,
            splits.y_train,
            classes,
            f"{name}: the first of {len(splits.y_train):,} training samples",
            lines,
        )
        title = f"{name}: predicted (true), {evaluated}"
        figures["predictions"] = prediction_grid(X_evaluated, y_true, y_pred, classes, title, lines)
        if not np.array_equal(y_pred, y_true):
            title = f"{name}: the classes that it confuses most, {evaluated}"
            figures["hardest_pairs"] = hardest_pairs(X_evaluated, y_true, y_prob, classes, title, lines)
            title = f"{name}: the mistakes it was surest of, {evaluated}"
            figures["mistakes"] = mistake_grid(X_evaluated, y_true, y_prob, classes, title, lines)
    return figures
