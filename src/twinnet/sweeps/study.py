"""A search with Optuna: trials of one study, trained by any number of processes, each result found again.

Optuna is driven directly: the Hydra sweeper for it stays with Optuna 2, which no longer works with databases.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat  # of which Optuna exports only the reader
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from twinnet.core import config, search_schema
from twinnet.core.errors import ConfigError, PrunedError, TwinnetError
from twinnet.core.schema import Experiment, Tracking
from twinnet.core.search_schema import Dimension, DimensionKind, Pruner, Sampler, Search
from twinnet.core.secrets import mask
from twinnet.sweeps import cache, expand
from twinnet.sweeps.expand import Composer, Job
from twinnet.sweeps.pruning import Pruning
from twinnet.tracking import live
from twinnet.tracking.store import with_driver
from twinnet.training.experiment import train

HEARTBEAT, GRACE = 5, 30  # seconds between two signs of life of a trial, and until one without them is dead
OVERRIDES, KEY, REASON = "overrides", "key", "reason"  # attributes of a trial


class Trials:
    """What each trial of a study needs; `tags` and `parent` are of the trials' MLflow runs."""

    def __init__(self, root: Path, overrides: Sequence[str], search: Search, objective: str, resume: bool) -> None:
        self.root, self.overrides, self.search = root, list(overrides), search
        self.objective, self.resume = objective, resume
        self.composer = Composer(root, "search")
        self.tracking = Tracking()
        self.tags: dict[str, str] = {}
        self.parent: str | None = None

    def check(self) -> None:
        """Compose each value of the space once. Raises ConfigError for the first that cannot be trained."""
        for key, dimension in self.search.space.items():
            for value in ends(dimension):
                try:
                    self.experiment([f"{key}={value}"])
                except TwinnetError as error:
                    raise type(error)(f"search.space.{key}: {error}") from error

    def experiment(self, sampled: Sequence[str]) -> Experiment:
        return config.experiment(self.composer(expand.parse([*self.overrides, *sampled])))

    def job(self, sampled: dict[str, str]) -> Job:
        words = [f"{key}={value}" for key, value in sampled.items()]
        experiment = self.experiment(words)
        base = [
            f"experiment={experiment.name}",
            *(w for w in self.overrides if not w.startswith(("search", "experiment="))),
        ]
        return Job((*base, *words), sampled, experiment, cache.key(experiment, self.root))

    def __call__(self, trial: Trial) -> float:
        """Train the trial's configuration, or find its result; the objective."""
        job = self.job({key: suggest(trial, key, dimension) for key, dimension in self.search.space.items()})
        trial.set_user_attr(OVERRIDES, list(job.overrides))
        trial.set_user_attr(KEY, job.key)
        with cache.lock(job.key, self.root):
            metrics = cache.find(job.key, self.root) if self.resume else None
            if metrics is None:
                metrics = self._train(job, trial)
        return float(metrics[self.objective])

    def _train(self, job: Job, trial: Trial) -> dict[str, Any]:
        tags = self.tags | {"twinnet.key": job.key, "mlflow.runName": f"trial {trial.number}: {job.label}"}
        tracker = live.tracker(self.tracking, parent=self.parent, tags=tags)
        pruning = Pruning(tracker, trial, self.objective, job.experiment)
        try:
            run = train(
                job.experiment,
                cache.directory(job.key, self.root),
                root=self.root,
                tracker=pruning,
                overrides=job.overrides,
            )
        except PrunedError as error:
            trial.set_user_attr(REASON, str(error))
            raise optuna.TrialPruned(str(error)) from error
        except TwinnetError as error:
            trial.set_user_attr(REASON, " ".join(str(error).split()))
            raise
        return dict(run.metrics)


def suggest(trial: Trial, key: str, dimension: Dimension) -> str:
    """A value of the dimension, as it is written on a command line."""
    if dimension.kind is DimensionKind.choice:
        return str(trial.suggest_categorical(key, [written(choice) for choice in dimension.choices]))
    assert dimension.low is not None
    assert dimension.high is not None
    if dimension.kind is DimensionKind.integer:
        low, high = int(dimension.low), int(dimension.high)
        return str(trial.suggest_int(key, low, high, step=int(dimension.step or 1), log=dimension.log))
    return str(trial.suggest_float(key, dimension.low, dimension.high, step=dimension.step, log=dimension.log))


def written(value: Any) -> str:
    """As Hydra reads it: `[8,8]`, `true`, `null`, `0.1`."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def ends(dimension: Dimension) -> list[str]:
    """Values that together tell whether the dimension fits the configuration: every choice, or both ends."""
    if dimension.kind is DimensionKind.choice:
        return [written(choice) for choice in dimension.choices]
    low, high = dimension.low, dimension.high
    assert low is not None
    assert high is not None
    return [str(int(end)) if dimension.kind is DimensionKind.integer else str(end) for end in (low, high)]


def open_study(search: Search, objective: str, epochs: int, root: Path) -> optuna.Study:
    """The study with its trials so far. Raises ConfigError where its storage does not answer."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # signs of life, since release 2.8
    try:
        with FileLock(_folder(root / "build") / "search.lock"):
            storage = RDBStorage(
                with_driver(search.storage),
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
            study, made = _made_or_joined(storage, search.study, objective)
    except Exception as error:  # SQLAlchemy's and its drivers' have no common base
        told = " ".join(mask(str(error), search.storage).split())
        raise ConfigError(
            f"search.storage={mask(search.storage, search.storage)}: expected a database that answers; {told[:200]}"
        ) from None
    study.pruner, study.sampler = _pruner(search, epochs), _sampler(search, search.seed if made else None)
    return study


def _made_or_joined(storage: RDBStorage, name: str, objective: str) -> tuple[optuna.Study, bool]:
    """The study, and whether this process made it: of several that start at once, one does."""
    direction = StudyDirection.MAXIMIZE if objective.endswith("accuracy") else StudyDirection.MINIMIZE
    try:
        return optuna.create_study(storage=storage, study_name=name, direction=direction), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name), False


def _sampler(search: Search, seed: int | None) -> optuna.samplers.BaseSampler:
    """The sampler; without a seed in a study that is joined, which must not draw what another process draws."""
    if search.sampler is Sampler.random:
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler is Sampler.grid:
        space = {key: _grid(key, dimension) for key, dimension in search.space.items()}
        return optuna.samplers.GridSampler(space, seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _grid(key: str, dimension: Dimension) -> list[Any]:
    values = search_schema.values(key, dimension)
    return [written(value) for value in values] if dimension.kind is DimensionKind.choice else values


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    first = max(1, round(search.pruned_after * epochs))
    if search.pruner is Pruner.median:
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=first)
    if search.pruner is Pruner.hyperband:
        return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=epochs)
    return optuna.pruners.NopPruner()


def wanted(search: Search) -> int:
    """Trials of the whole study; a grid has no more than its points."""
    if search.sampler is not Sampler.grid:
        return search.trials
    return min(
        search.trials, prod(len(search_schema.values(key, dimension)) for key, dimension in search.space.items())
    )


def work(study: optuna.Study, trials: Trials, tell: Callable[[FrozenTrial], None]) -> None:
    """Train trials until the study has as many as the search wants, those of other processes included.

    A trial whose process died is trained again. Processes of one machine ask one after the other, so that together
    they make no trial too many; machines that share a study may make one more each.
    """
    lock, wanted = FileLock(_folder(trials.root / "build") / "search.lock"), trials.search.trials

    def objective(trial: Trial) -> float:
        lock.release()  # the study knows of this trial now
        return trials(trial)

    told = {trial.number for trial in study.trials if trial.state.is_finished()}
    vouched: set[int] = set()
    while True:
        with lock:
            ended, running = count(study)
            if ended + running < wanted:
                study.optimize(objective, n_trials=1, catch=(TwinnetError,))
        for trial in study.trials:
            if trial.state.is_finished() and trial.number not in told:
                told.add(trial.number)
                tell(trial)
        if ended >= wanted:
            return
        if ended + running >= wanted:  # other processes are at the last ones, unless they died
            _vouch(study, vouched)
            time.sleep(1)
            fail_stale_trials(study)


def _vouch(study: optuna.Study, vouched: set[int]) -> None:
    """Give each running trial one sign of life: without any, Optuna never takes a trial for dead."""
    storage = study._storage
    assert isinstance(storage, BaseHeartbeat)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.number not in vouched:
            vouched.add(trial.number)
            storage.record_heartbeat(trial._trial_id)


def count(study: optuna.Study) -> tuple[int, int]:
    """Trials that have ended, by themselves and not with their process, and trials that run."""
    trials = study.trials
    ended = sum(trial.state.is_finished() and not died(trial) for trial in trials)
    return ended, sum(trial.state is TrialState.RUNNING for trial in trials)


def died(trial: FrozenTrial) -> bool:
    """Whether the trial ended with its process, and not by an error that it told."""
    return trial.state is TrialState.FAIL and REASON not in trial.user_attrs


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
