"""An Optuna study: opened or joined in its database, and filled with trials by any number of processes.

Optuna is driven directly: hydra-optuna-sweeper requires Optuna 2, which no longer works with databases.
"""

import os
import time
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat  # Optuna exports only the function that reads it
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from twinnet.core import search_schema
from twinnet.core.config import plain, to_override
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Experiment
from twinnet.core.search_schema import Dimension, DimensionKind, Pruner, Sampler, Search
from twinnet.core.secrets import mask
from twinnet.sweeps.objective import KEY, REASON, FailedTrialError, Objective
from twinnet.sweeps.summary import minimizes
from twinnet.tracking.store import PGOPTIONS, with_driver
from twinnet.training.run import flatten

HEARTBEAT, GRACE = 5, 30  # seconds between two heartbeats of a trial, and until a trial without one is dead
IDENTITY, SETTINGS = "identity", "settings"  # attributes of a study
# Settings that processes of one study need not share: names, and where and how fast a trial is trained.
FREE = ("name", "description", "device", "checkpoint_seconds", "allow_degenerate", "engine.threads", "limits.epochs")


def open_study(search: Search, metric: str, experiment: Experiment, root: Path) -> optuna.Study:
    """Return the study with its trials so far.

    Raises ConfigError if its storage does not answer, or if it began with another objective or experiment.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this package reports failed trials
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats, since release 2.8
    os.environ.setdefault("PGOPTIONS", PGOPTIONS)
    try:
        with _lock(root):
            storage = RDBStorage(
                with_driver(search.storage),
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
            study, is_new = _create_or_load(storage, search.study, metric)
            _check_settings(study, search, metric, experiment)
    except ConfigError:
        raise
    except Exception as error:  # the errors of SQLAlchemy and its drivers have no common base
        reason = " ".join(mask(str(error), search.storage).split())
        raise ConfigError(
            f"search.storage={mask(search.storage, search.storage)}: expected a database that answers; {reason[:200]}"
        ) from None
    study.pruner = _pruner(search, experiment.trained_epochs)
    study.sampler = _sampler(search, search.seed if is_new else None)
    return study


def _lock(root: Path) -> FileLock:
    """Return the lock of the searches of this checkout."""
    (root / "build").mkdir(parents=True, exist_ok=True)
    return FileLock(root / "build" / "search.lock")


def _create_or_load(storage: RDBStorage, name: str, metric: str) -> tuple[optuna.Study, bool]:
    """Return the study, and whether this process created it: of several that start at the same time, one does."""
    direction = StudyDirection.MINIMIZE if minimizes(metric) else StudyDirection.MAXIMIZE
    try:
        return optuna.create_study(storage=storage, study_name=name, direction=direction), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name), False


def _check_settings(study: optuna.Study, search: Search, metric: str, experiment: Experiment) -> None:
    """Raise ConfigError if the study began with other settings; note those of a new one, and its identity."""
    settings = {"objective": metric} | flatten(plain(experiment) | {"epochs": experiment.trained_epochs})
    free = tuple(f"{key}." for key in (*FREE, *search.space))  # a key of the space may be that of a group
    settings = {key: value for key, value in settings.items() if not f"{key}.".startswith(free)}
    if SETTINGS not in study.user_attrs:
        study.set_user_attr(IDENTITY, uuid4().hex)
        study.set_user_attr(SETTINGS, settings)
    for key, began in study.user_attrs[SETTINGS].items():
        if settings.get(key, began) != began:
            raise ConfigError(
                f"search.study={search.study}: expected {key}={began}, with which it began; "
                f"received {settings[key]}; use another search.study"
            )


def _sampler(search: Search, seed: int | None) -> optuna.samplers.BaseSampler:
    """Return the sampler; a process that joins a study has no seed, or it would draw the trials of the first one."""
    if search.sampler is Sampler.random:
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler is Sampler.grid:
        space = {key: _grid_values(key, dimension) for key, dimension in search.space.items()}
        return optuna.samplers.GridSampler(space, seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _grid_values(key: str, dimension: Dimension) -> list[Any]:
    values = search_schema.values(key, dimension)
    return [to_override(value) for value in values] if dimension.kind is DimensionKind.choice else values


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    first = max(1, round(search.pruned_after * epochs))
    if search.pruner is Pruner.median:
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=first)
    if search.pruner is Pruner.hyperband:
        return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=epochs)
    return optuna.pruners.NopPruner()


def n_trials(search: Search) -> int:
    """Return the number of trials of the whole study; a grid has no more than its points."""
    if search.sampler is not Sampler.grid:
        return search.trials
    return min(search.trials, prod(len(search_schema.values(key, each)) for key, each in search.space.items()))


def run_trials(study: optuna.Study, objective: Objective, report: Callable[[FrozenTrial], None]) -> None:
    """Train trials until the study has as many as the search asks for, those of other processes included.

    A trial whose process died is trained again. Processes of one machine start trials one after the other, so that
    they never start too many; machines that share a study may each start one too many.
    """
    lock, target = _lock(objective.context.root), objective.search.trials

    def release_and_train(trial: Trial) -> float:
        lock.release()  # the study has this trial now
        return objective(trial)

    reported = {trial.number for trial in study.trials if trial.state.is_finished()}
    recorded: set[int] = set()
    while True:
        with lock:
            ended, running = count_trials(study)
            if ended + running < target:
                study.optimize(release_and_train, n_trials=1, catch=(FailedTrialError,))
        for trial in study.trials:
            if trial.state.is_finished() and trial.number not in reported:
                reported.add(trial.number)
                report(trial)
        if ended >= target:
            return
        if ended + running >= target:  # other processes train the last ones, unless they died
            _record_heartbeats(study, recorded)
            time.sleep(1)
            fail_stale_trials(study)


def _record_heartbeats(study: optuna.Study, recorded: set[int]) -> None:
    """Record one heartbeat for each running trial; Optuna never marks a trial without any as stale."""
    storage = study._storage
    assert isinstance(storage, BaseHeartbeat)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.number not in recorded:
            recorded.add(trial.number)
            storage.record_heartbeat(trial._trial_id)


def count_trials(study: optuna.Study) -> tuple[int, int]:
    """Return the numbers of trials that have ended, except those whose process died, and of trials that run."""
    trials = study.trials
    ended = sum(trial.state.is_finished() and not process_died(trial) for trial in trials)
    return ended, sum(trial.state is TrialState.RUNNING for trial in trials)


def process_died(trial: FrozenTrial) -> bool:
    """Return whether the trial ended with its process and not by an error that it recorded."""
    return trial.state is TrialState.FAIL and REASON not in trial.user_attrs


def lost_keys(study: optuna.Study) -> list[str]:
    """Return the keys of trials whose process died and that no process trains now."""
    trials = [trial for trial in study.trials if KEY in trial.user_attrs]
    running = {trial.user_attrs[KEY] for trial in trials if trial.state is TrialState.RUNNING}
    return sorted({trial.user_attrs[KEY] for trial in trials if process_died(trial)} - running)
