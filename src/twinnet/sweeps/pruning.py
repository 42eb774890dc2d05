"""Stops a trial that is worse than the others at the same epoch."""

from typing import TYPE_CHECKING

from optuna.trial import Trial

from twinnet.core.errors import PrunedError
from twinnet.core.history import History
from twinnet.core.schema import Experiment

if TYPE_CHECKING:
    from twinnet.training.experiment import Run, Tracker
    from twinnet.training.run_info import RunInfo

REPORTS = 30  # of a trial to its study, at most: each is a write to the database


class Pruning:
    """A tracker that hands everything on to `tracker` and reports the objective to the trial's study."""

    def __init__(self, tracker: "Tracker | None", trial: Trial, objective: str, experiment: Experiment) -> None:
        self.tracker, self.trial, self.objective = tracker, trial, objective
        self.every, self.reported = max(1, experiment.trained_epochs // REPORTS), 0

    def started(self, info: "RunInfo") -> None:
        if self.tracker:
            self.tracker.started(info)

    def progressed(self, history: History) -> None:
        """Raises PrunedError where the study says that the trial is not worth going on with."""
        if self.tracker:
            self.tracker.progressed(history)
        epoch, value = history.epochs, current(history, self.objective)
        if value is None or epoch // self.every == self.reported:
            return
        self.reported = epoch // self.every
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise PrunedError(f"pruned at epoch {epoch}: {self.objective} {value:.4g}, worse than other trials there")

    def finished(self, run: "Run") -> None:
        if self.tracker:
            self.tracker.finished(run)

    def failed(self, error: BaseException) -> None:
        if self.tracker:
            self.tracker.failed(error)


def current(history: History, objective: str) -> float | None:
    """The objective as it stands; None for the test split, which no training looks at."""
    split, _, metric = objective.partition("/")
    if split == "train":
        return float((history.train_loss if metric == "loss" else history.train_metric)[-1][-1])
    if split == "valid":
        return float((history.valid_loss if metric == "loss" else history.valid_metric)[-1])
    return None
