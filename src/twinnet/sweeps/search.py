"""A search with Optuna: check the space, train the trials that the study lacks, summarise."""

import contextlib
import hashlib
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
from twinnet.core.schema import Experiment
from twinnet.core.search_schema import Search
from twinnet.core.secrets import mask
from twinnet.sweeps import cache, expand, study, summary
from twinnet.sweeps.job import Job, JobResult, Status
from twinnet.sweeps.objective import KEY, OVERRIDES, REASON, Objective
from twinnet.sweeps.parent_run import ParentRun
from twinnet.sweeps.progress import duration
from twinnet.tracking import sweeps
from twinnet.training import fingerprint

STATUS = {
    TrialState.COMPLETE: Status.finished,
    TrialState.PRUNED: Status.pruned,
    TrialState.FAIL: Status.failed,
}


def run_search(root: Path, words: Sequence[str], composed: DictConfig, search: Search) -> int:
    """Train the trials that the study lacks; return how many of all failed. Raises ConfigError before the first one."""
    search = replace(search, trials=study.n_trials(search))
    objective = Objective(root, words, search, composed.objective, composed.resume)
    objective.check_space()
    experiment = objective.experiment()
    summary.check_objective(composed.objective, experiment)
    cache.key(experiment, root)  # missing data is reported now
    opened = study.open_study(search, composed.objective, experiment.trained_epochs, root)
    objective.tracking = expand.tracking_settings(composed)
    folder = root / "outputs" / "searches" / f"{search.study}-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    sweep = describe(words, search, experiment)
    parent = ParentRun(root, objective.tracking, sweep, folder, composed.objective)
    objective.tags, objective.parent = parent.tags, parent.run_id
    ended, _ = study.count_trials(opened)
    print(f"search {search.study}: {ended} of {search.trials} trials are there; {mask(search.storage)}", flush=True)
    for key, line in config.overruled(root, words, experiment).items():
        if key not in search.space:
            print(line, flush=True)
    start, status = time.monotonic(), "KILLED"
    helpers = [_start_helper(objective, experiment.trained_epochs) for _ in range(search.processes - 1)]
    try:
        study.run_trials(opened, objective, lambda trial: report(trial, composed.objective, search.trials))
        status = "FINISHED"
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()
        whole = parent.end(*_results(opened, objective, experiment), status, composed.figures, study.lost_keys(opened))
        for line in [_count_line(opened, time.monotonic() - start), *whole.report_lines()]:
            print(line, flush=True)
    return len(whole.failures)


def _start_helper(objective: Objective, epochs: int) -> BaseProcess:
    """Start a process that trains trials of the same study; this one reports them."""
    helper = get_context("spawn").Process(target=_help, args=(objective, epochs), daemon=True)
    helper.start()
    return helper


def _help(objective: Objective, epochs: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # the leading process reports it
        opened = study.open_study(objective.search, objective.metric, epochs, objective.root)
        study.run_trials(opened, objective, lambda trial: None)


def report(trial: FrozenTrial, metric: str, n_trials: int) -> None:
    """Print one line about a trial that has ended, in this process or in another."""
    values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    score = f"{metric} {trial.value:.4f}" if trial.value is not None else ""
    reason = trial.user_attrs.get(REASON, score or "its process died; it is tried again")
    seconds = f" in {trial.duration.total_seconds():.3g} s" if trial.duration else ""
    print(f"[{trial.number + 1}/{n_trials}] {STATUS[trial.state]:<8} {values}: {reason}{seconds}", flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(words: Sequence[str], search: Search, experiment: Experiment) -> sweeps.Sweep:
    """Return the search as its parent run in MLflow shows it."""
    space = {
        key: ", ".join(map(config.to_override, dimension.choices))
        or f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.log else ''}"
        for key, dimension in search.space.items()
    }
    lines = [f"A search of **{search.trials} trials** ({search.sampler}, pruner {search.pruner})."]
    lines += [f"- `{key}`: {values}" for key, values in space.items()]
    lines.append(f"\n**Resume.** `python -m twinnet.search {' '.join(words)}` goes on with the same study.")
    return sweeps.Sweep(
        key=hashlib.sha256(f"{search.study} {search.storage}".encode()).hexdigest()[: fingerprint.LENGTH],
        experiment=sweeps.experiment_name(experiment),
        name=f"{experiment.name}: search {search.study}",
        note="\n".join(lines),
        swept=space,
        tags={"overrides": " ".join(words), "study": search.study},
    )


def _results(
    opened: optuna.Study, objective: Objective, experiment: Experiment
) -> tuple[list[Job], dict[str, JobResult]]:
    """Return the trials as jobs, each configuration once, and their results."""
    jobs: dict[str, Job] = {}
    results: dict[str, JobResult] = {}
    for trial in opened.trials:
        key = trial.user_attrs.get(KEY)
        if key is None or not trial.state.is_finished() or study.process_died(trial):
            continue
        swept = {name: _short(value) for name, value in trial.params.items()}
        jobs[key] = Job(tuple(trial.user_attrs[OVERRIDES]), swept, experiment, key)
        result = cache.find(key, objective.root) or JobResult(key, Status.missing)
        if not result.metrics and trial.value is not None and trial.state is TrialState.COMPLETE:
            result = replace(result, metrics={objective.metric: trial.value})  # trained on another machine
        results[key] = replace(result, status=STATUS[trial.state], reason=str(trial.user_attrs.get(REASON, "")))
    return list(jobs.values()), results


def _count_line(opened: optuna.Study, seconds: float) -> str:
    ended = [trial for trial in opened.trials if trial.state.is_finished() and not study.process_died(trial)]
    counts = Counter(STATUS[trial.state] for trial in ended)
    return ", ".join(f"{count} {status}" for status, count in counts.items()) + f", after {duration(seconds)}"
