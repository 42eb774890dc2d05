"""The objective of a search: train one trial of the study, or find its result, and prune it if others are better."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.trial import Trial

from twinnet.core import config
from twinnet.core.errors import ConfigError, PrunedError, TwinnetError, one_line_text
from twinnet.core.history import History
from twinnet.core.schema import Experiment
from twinnet.core.search_schema import Dimension, DimensionKind, Search, limits
from twinnet.sweeps import cache
from twinnet.sweeps.expand import Composer
from twinnet.sweeps.job import Job, JobResult, Status, SweepContext
from twinnet.sweeps.job_runner import run_job_locked
from twinnet.training.experiment import Tracker
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

REPORTS = 30  # of a trial to its study, at most: each is a write to the database
OVERRIDES, KEY, REASON = "overrides", "key", "reason"  # attributes of a trial


class FailedTrialError(Exception):
    """A trial that failed, with its reason in the study: the search goes on."""


def check_space(search: Search, composer: Composer, words: Sequence[str]) -> None:
    """Compose each value of the space once. Raises ConfigError for the first that cannot be trained."""
    for key, dimension in search.space.items():
        for value in boundary_values(dimension):
            try:
                composer.experiment([*words, f"{key}={value}"])
            except TwinnetError as error:
                raise type(error)(f"search.space.{key}: {error}") from error


@dataclass(frozen=True)
class Objective:
    """Called by Optuna for each trial."""

    search: Search
    metric: str
    composer: Composer
    words: Sequence[str]  # of the search's command
    single_run_words: Sequence[str]  # the same for a command that trains one configuration
    context: SweepContext

    def __call__(self, trial: Trial) -> float:
        """Raises ConfigError, which ends the search, if the space does not fit the study."""
        result = self._run(trial, {key: suggest(trial, key, each) for key, each in self.search.space.items()})
        if result.is_done:
            return float(result.metrics[self.metric])
        trial.set_user_attr(REASON, result.reason)
        if result.status is Status.pruned:
            raise optuna.TrialPruned(result.reason)
        raise FailedTrialError(result.reason)

    def _run(self, trial: Trial, sampled: dict[str, str]) -> JobResult:
        """Return the result of the trial; a combination of values that cannot be trained has failed."""
        values = [f"{key}={value}" for key, value in sampled.items()]
        overrides = (*self.single_run_words, *values)
        trial.set_user_attr(OVERRIDES, list(overrides))
        try:
            experiment = self.composer.experiment([*self.words, *values])
            job = Job(overrides, sampled, experiment, cache.key(experiment, self.context.root))
            trial.set_user_attr(KEY, job.key)
            name = {"mlflow.runName": f"trial {trial.number}: {job.label}"}
            return run_job_locked(
                job,
                replace(self.context, tags=self.context.tags | name),
                self.context.folder,
                lambda tracker: PruningTracker(tracker, trial, self.metric, experiment),
            )
        except Exception as error:
            return JobResult("", Status.failed, reason=one_line_text(error))


class PruningTracker:
    """A tracker that forwards to `tracker` and reports the objective to the trial's study."""

    def __init__(self, tracker: Tracker | None, trial: Trial, metric: str, experiment: Experiment) -> None:
        self.tracker, self.trial, self.metric = tracker, trial, metric
        self.every, self.reported = max(1, experiment.trained_epochs // REPORTS), 0

    def started(self, info: RunInfo) -> None:
        if self.tracker:
            self.tracker.started(info)

    def progressed(self, history: History) -> None:
        """Raises PrunedError if other trials of the study were better at this epoch."""
        if self.tracker:
            self.tracker.progressed(history)
        epoch, value = history.epochs, latest(history, self.metric)
        if value is None or epoch // self.every == self.reported:
            return
        self.reported = epoch // self.every
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise PrunedError(f"pruned at epoch {epoch}: {self.metric} {value:.4g}, worse than other trials there")

    def finished(self, run: Run) -> None:
        if self.tracker:
            self.tracker.finished(run)

    def failed(self, error: BaseException) -> None:
        if self.tracker:
            self.tracker.failed(error)


def latest(history: History, metric: str) -> float | None:
    """Return the latest value of the metric; None for the test split, which no training evaluates."""
    split, _, name = metric.partition("/")
    if split == "train":
        return float((history.train_loss if name == "loss" else history.train_metric)[-1][-1])
    if split == "valid":
        return float((history.valid_loss if name == "loss" else history.valid_metric)[-1])
    return None


def suggest(trial: Trial, key: str, dimension: Dimension) -> str:
    """Return the trial's value of the dimension as on a command line.

    Raises ConfigError if earlier trials of the study had other choices.
    """
    try:
        if dimension.kind is DimensionKind.choice:
            return str(trial.suggest_categorical(key, [config.to_override(choice) for choice in dimension.choices]))
        low, high = limits(dimension)
        if dimension.kind is DimensionKind.integer:
            return str(trial.suggest_int(key, int(low), int(high), step=int(dimension.step or 1), log=dimension.log))
        return str(trial.suggest_float(key, low, high, step=dimension.step, log=dimension.log))
    except ValueError as error:
        raise ConfigError(
            f"search.space.{key}: expected the kind and choices of the study's earlier trials; "
            "received others; use another search.study"
        ) from error


def boundary_values(dimension: Dimension) -> list[str]:
    """Return values that tell if the dimension fits the configuration: every choice, or both ends."""
    if dimension.kind is DimensionKind.choice:
        return [config.to_override(choice) for choice in dimension.choices]
    return [str(int(end)) if dimension.kind is DimensionKind.integer else str(end) for end in limits(dimension)]
