"""A search with Optuna: check the space, train the trials that the study lacks, summarise."""

import contextlib
import shlex
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from twinnet.core import config
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Experiment
from twinnet.core.search_schema import Search
from twinnet.core.secrets import mask
from twinnet.sweeps import cache
from twinnet.sweeps.expand import Composer, single_run_words
from twinnet.sweeps.job import Job, JobResult, Status
from twinnet.sweeps.objective import KEY, OVERRIDES, REASON, Objective, check_space
from twinnet.sweeps.parent_run import ParentRun
from twinnet.sweeps.progress import duration
from twinnet.sweeps.study import IDENTITY, count_trials, lost_keys, n_trials, open_study, process_died, run_trials
from twinnet.sweeps.summary import check_objective
from twinnet.tracking import sweeps

STATUS = {
    TrialState.COMPLETE: Status.finished,
    TrialState.PRUNED: Status.pruned,
    TrialState.FAIL: Status.failed,
}


def run_search(root: Path, words: Sequence[str], composed: DictConfig, search: Search, threads: int | None) -> int:
    """Train the trials that the study lacks; return the number of failed trials of the study.

    `threads` is the limit of each process. Raises ConfigError before the first trial.
    """
    search = replace(search, trials=n_trials(search))
    composer = Composer(root, "search")
    check_space(search, composer, words)
    experiment = composer.experiment(words)
    check_objective(composed.objective, experiment)
    cache.key(experiment, root)  # missing data is reported now
    study = open_study(search, composed.objective, experiment, root)
    folder = root / "outputs" / "searches" / f"{search.study}-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    tracking = config.tracking(composed.tracking)
    sweep = describe(words, search, experiment, study.user_attrs[IDENTITY])
    parent = ParentRun(root, tracking, sweep, folder, composed.objective)
    context = parent.context(composed, threads, search.space, fail_fast=False, wait=True)
    single = single_run_words(root, "search", words)
    objective = Objective(search, composed.objective, composer, words, single, context)
    ended, _ = count_trials(study)
    print(f"search {search.study}: {ended} of {search.trials} trials have ended; {mask(search.storage)}", flush=True)
    for key, line in config.overruled(root, words, experiment).items():
        if key not in search.space:
            print(line, flush=True)
    start, status = time.monotonic(), "FAILED"
    helpers = [_start_helper(objective, experiment) for _ in range(search.processes - 1)]
    try:
        run_trials(study, objective, lambda trial: report(trial, composed.objective, search.trials))
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()
        jobs, results = _results(study, objective, experiment)
        if status == "FINISHED" and any(result.status is Status.failed for result in results.values()):
            status = "FAILED"
        summary = parent.end(jobs, results, status, composed.figures, lost_keys(study))
        for line in [_count_line(study, time.monotonic() - start), *summary.report_lines()]:
            print(line, flush=True)
    return len(summary.failures)


def _start_helper(objective: Objective, experiment: Experiment) -> BaseProcess:
    """Start a process that trains trials of the same study; this one reports them."""
    helper = get_context("spawn").Process(target=_help, args=(objective, experiment), daemon=True)
    helper.start()
    return helper


def _help(objective: Objective, experiment: Experiment) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt, ConfigError):  # the leading process reports them
        study = open_study(objective.search, objective.metric, experiment, objective.context.root)
        run_trials(study, objective, lambda trial: None)


def report(trial: FrozenTrial, metric: str, n_trials: int) -> None:
    """Print one line about a trial that has ended, in this process or in another."""
    values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    score = f"{metric} {trial.value:.4f}" if trial.value is not None else ""
    reason = trial.user_attrs.get(REASON, score or "its process died; it is tried again")
    seconds = f" in {trial.duration.total_seconds():.3g} s" if trial.duration else ""
    print(f"[{trial.number + 1}/{n_trials}] {STATUS[trial.state]:<8} {values}: {reason}{seconds}", flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(words: Sequence[str], search: Search, experiment: Experiment, key: str) -> sweeps.Sweep:
    """Return the search as its parent run in MLflow shows it; `key` is that of the study."""
    space = {
        name: ", ".join(map(config.to_override, dimension.choices))
        or f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.log else ''}"
        for name, dimension in search.space.items()
    }
    lines = [f"A search of **{search.trials} trials** ({search.sampler}, pruner {search.pruner})."]
    lines += [f"- `{name}`: {values}" for name, values in space.items()]
    lines.append(f"\n**Resume.** `python -m twinnet.search {shlex.join(words)}` goes on with the same study.")
    return sweeps.Sweep(
        key=key,
        experiment=sweeps.experiment_name(experiment),
        name=f"{experiment.name}: search {search.study}",
        note="\n".join(lines),
        swept=space,
        tags={"overrides": " ".join(words), "study": search.study},
    )


def _results(
    study: optuna.Study, objective: Objective, experiment: Experiment
) -> tuple[list[Job], dict[str, JobResult]]:
    """Return the trials as jobs, each configuration once, and their results."""
    jobs: dict[str, Job] = {}
    results: dict[str, JobResult] = {}
    for trial in study.trials:
        if not trial.state.is_finished() or process_died(trial):
            continue
        key = trial.user_attrs.get(KEY, f"trial-{trial.number}")  # none: its values cannot be trained
        swept = {name: _short(value) for name, value in trial.params.items()}
        jobs[key] = Job(tuple(trial.user_attrs[OVERRIDES]), swept, experiment, key)
        result = cache.find(key, objective.context.root) or JobResult(key, Status.missing)
        if not result.metrics and trial.value is not None and trial.state is TrialState.COMPLETE:
            result = replace(result, metrics={objective.metric: trial.value})  # trained on another machine
        results[key] = replace(result, status=STATUS[trial.state], reason=str(trial.user_attrs.get(REASON, "")))
    return list(jobs.values()), results


def _count_line(study: optuna.Study, seconds: float) -> str:
    ended = [trial for trial in study.trials if trial.state.is_finished() and not process_died(trial)]
    counts = Counter(STATUS[trial.state] for trial in ended)
    numbers = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no trial has ended"
    return f"{numbers}, after {duration(seconds)}"
