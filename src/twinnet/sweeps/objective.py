"""The objective of a search: train one trial of the study, or find its result, and prune it if others are better."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from twinnet.core import config
from twinnet.core.errors import PrunedError, TwinnetError, one_line_text
from twinnet.core.history import History
from twinnet.core.schema import Experiment, Tracking
from twinnet.core.search_schema import Dimension, DimensionKind, Search, limits
from twinnet.sweeps import cache, expand
from twinnet.sweeps.expand import Composer
from twinnet.sweeps.job import Job
from twinnet.tracking import live
from twinnet.training.experiment import Tracker, train
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

REPORTS = 30  # of a trial to its study, at most: each is a write to the database
OVERRIDES, KEY, REASON = "overrides", "key", "reason"  # attributes of a trial


class Objective:
    """Called by Optuna for each trial; `tags` and `parent` are of the trials' MLflow runs."""

    def __init__(self, root: Path, overrides: Sequence[str], search: Search, metric: str, resume: bool) -> None:
        self.root, self.overrides, self.search = root, list(overrides), search
        self.metric, self.resume = metric, resume
        self.composer = Composer(root, "search")
        self.tracking = Tracking()
        self.tags: dict[str, str] = {}
        self.parent: str | None = None

    def check_space(self) -> None:
        """Compose each value of the space once. Raises ConfigError for the first that cannot be trained."""
        for key, dimension in self.search.space.items():
            for value in boundary_values(dimension):
                try:
                    self.experiment([f"{key}={value}"])
                except TwinnetError as error:
                    raise type(error)(f"search.space.{key}: {error}") from error

    def experiment(self, sampled: Sequence[str] = ()) -> Experiment:
        return config.experiment(self.composer(expand.parse([*self.overrides, *sampled])))

    def job(self, sampled: dict[str, str]) -> Job:
        values = [f"{key}={value}" for key, value in sampled.items()]
        experiment = self.experiment(values)
        fixed = [word for word in self.overrides if not word.startswith(("search", "experiment="))]
        words = (f"experiment={experiment.name}", *fixed, *values)
        return Job(words, sampled, experiment, cache.key(experiment, self.root))

    def __call__(self, trial: Trial) -> float:
        job = self.job({key: suggest(trial, key, dimension) for key, dimension in self.search.space.items()})
        trial.set_user_attr(OVERRIDES, list(job.overrides))
        trial.set_user_attr(KEY, job.key)
        with cache.lock(job.key, self.root):
            result = cache.find(job.key, self.root) if self.resume else None
            metrics = result.metrics if result else self._train(job, trial)
        return float(metrics[self.metric])

    def _train(self, job: Job, trial: Trial) -> dict[str, Any]:
        tags = job.tags(self.tags) | {"mlflow.runName": f"trial {trial.number}: {job.label}"}
        tracker = live.tracker(self.tracking, parent=self.parent, tags=tags, root=self.root, waits=False)
        pruning = PruningTracker(tracker, trial, self.metric, job.experiment)
        directory = cache.directory(job.key, self.root)
        try:
            run = train(job.experiment, directory, root=self.root, tracker=pruning, overrides=job.overrides)
        except PrunedError as error:
            trial.set_user_attr(REASON, str(error))
            raise optuna.TrialPruned(str(error)) from error
        except TwinnetError as error:
            trial.set_user_attr(REASON, one_line_text(error))
            raise
        return dict(run.metrics)


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
    """Return the trial's value of the dimension as on a command line."""
    if dimension.kind is DimensionKind.choice:
        return str(trial.suggest_categorical(key, [config.to_override(choice) for choice in dimension.choices]))
    low, high = limits(dimension)
    if dimension.kind is DimensionKind.integer:
        return str(trial.suggest_int(key, int(low), int(high), step=int(dimension.step or 1), log=dimension.log))
    return str(trial.suggest_float(key, low, high, step=dimension.step, log=dimension.log))


def boundary_values(dimension: Dimension) -> list[str]:
    """Return values that tell if the dimension fits the configuration: every choice, or both ends."""
    if dimension.kind is DimensionKind.choice:
        return [config.to_override(choice) for choice in dimension.choices]
    return [str(int(end)) if dimension.kind is DimensionKind.integer else str(end) for end in limits(dimension)]
