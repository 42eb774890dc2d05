"""The process that leads a search: check the space, train trials, tell how each went and what was found."""

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

from twinnet.core.search_schema import Search
from twinnet.core.secrets import mask
from twinnet.sweeps import cache, expand, job, study, summary
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome
from twinnet.sweeps.progress import duration
from twinnet.sweeps.study import KEY, OVERRIDES, REASON, Trials
from twinnet.tracking import sweeps
from twinnet.training import fingerprint

WORDS = {TrialState.COMPLETE: job.FINISHED, TrialState.PRUNED: "pruned", TrialState.FAIL: job.FAILED}


def lead(root: Path, words: Sequence[str], composed: DictConfig, search: Search) -> int:
    """Train the trials that the study lacks; how many of all failed. Raises ConfigError before the first one."""
    search = replace(search, trials=study.wanted(search))
    trials = Trials(root, words, search, composed.objective, composed.resume)
    trials.check()
    base = trials.experiment([])
    summary.check_objective(composed.objective, base)
    cache.key(base, root)  # so that missing data is told now
    epochs = min(base.epochs, base.limits.epochs or base.epochs)
    opened = study.open_study(search, composed.objective, epochs, root)
    trials.tracking = expand.settings(composed, "tracking")
    told = sweep(words, search, base.data.name)
    trials.tags = {sweeps.KIND: told.key}
    trials.parent = sweeps.begin(trials.tracking, told, root=root)
    ended, _ = study.count(opened)
    print(f"search {search.study}: {ended} of {search.trials} trials are there; {mask(search.storage)}", flush=True)
    begun, status = time.monotonic(), "KILLED"
    helpers = [_helper(trials, epochs) for _ in range(search.processes - 1)]
    try:
        study.work(opened, trials, lambda trial: tell(trial, composed.objective, search.trials))
        status = "FINISHED"
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()
        whole = _end(root, opened, trials, told, status)
        for line in _account(opened, whole, time.monotonic() - begun):
            print(line, flush=True)
    return len(whole.failures)


def _helper(trials: Trials, epochs: int) -> BaseProcess:
    """A process that trains trials of the same study and leaves it to this one to tell of them."""
    helper = get_context("spawn").Process(target=_help, args=(trials, epochs), daemon=True)
    helper.start()
    return helper


def _help(trials: Trials, epochs: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # the process that leads tells of it
        opened = study.open_study(trials.search, trials.objective, epochs, trials.root)
        study.work(opened, trials, lambda trial: None)


def tell(trial: FrozenTrial, objective: str, wanted: int) -> None:
    """One line about a trial that has ended, in this process or in another."""
    values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    result = f"{objective} {trial.value:.4f}" if trial.value is not None else ""
    account = trial.user_attrs.get(REASON, result or "its process died; it is tried again")
    seconds = f" in {trial.duration.total_seconds():.3g} s" if trial.duration else ""
    print(f"[{trial.number + 1}/{wanted}] {WORDS[trial.state]:<8} {values}: {account}{seconds}", flush=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sweep(words: Sequence[str], search: Search, dataset: str) -> sweeps.Sweep:
    """The search as its parent run in MLflow shows it."""
    space = {
        key: ", ".join(map(study.written, dimension.choices))
        or f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.log else ''}"
        for key, dimension in search.space.items()
    }
    lines = [f"A search of **{search.trials} trials** ({search.sampler.value}, pruner {search.pruner.value})."]
    lines += [f"- `{key}`: {values}" for key, values in space.items()]
    lines.append(f"\n**Again.** `python -m twinnet.search {' '.join(words)}` goes on with the same study.")
    named = f"{search.study} {search.storage}"
    return sweeps.Sweep(
        key=hashlib.sha256(named.encode()).hexdigest()[: fingerprint.LENGTH],
        dataset=dataset,
        name=f"search {search.study}",
        note="\n".join(lines),
        swept=space,
        tags={"overrides": " ".join(words), "study": search.study},
    )


def _end(root: Path, opened: optuna.Study, trials: Trials, told: sweeps.Sweep, status: str) -> summary.Summary:
    """Leave the summary in outputs/searches/, and bring the store up to date."""
    jobs, ended = _ended(opened, trials)
    whole = summary.summarise(jobs, ended, trials.objective)
    folder = root / "outputs" / "searches" / f"{opened.study_name}-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    runs: dict[str, str] = {}
    if trials.tracking.enabled:
        children = [
            sweeps.SweepRun(key, Path(outcome.directory), trials.tags | {sweeps.KEY: key})
            for key, outcome in ended.items()
            if outcome.status == job.FINISHED and outcome.directory
        ]
        runs = sweeps.sync_children(trials.tracking, trials.parent, children, root=root)
    files = summary.write(whole, folder, runs)
    if trials.parent:
        note = f"{told.note}\n\n{whole.note}"
        tags = {"best": whole.best, "failures": "; ".join(whole.failures)}
        ending = sweeps.SweepResult(status, note, tags, whole.best_metrics, files)
        sweeps.end(trials.tracking, trials.parent, ending, root=root)
    return whole


def _ended(opened: optuna.Study, trials: Trials) -> tuple[list[Job], dict[str, Outcome]]:
    """The trials as jobs, each configuration once."""
    jobs: dict[str, Job] = {}
    ended: dict[str, Outcome] = {}
    experiment = trials.experiment([])
    for trial in opened.trials:
        key = trial.user_attrs.get(KEY)
        if key is None or not trial.state.is_finished() or study.died(trial):
            continue
        metrics = cache.find(key, trials.root)
        directory = str(cache.directory(key, trials.root)) if metrics else ""
        if metrics is None and trial.value is not None and trial.state is TrialState.COMPLETE:
            metrics = {trials.objective: trial.value}  # trained on another machine
        swept = {name: _short(value) for name, value in trial.params.items()}
        reason = str(trial.user_attrs.get(REASON, ""))
        jobs[key] = Job(tuple(trial.user_attrs[OVERRIDES]), swept, experiment, key)
        ended[key] = Outcome(key, WORDS[trial.state], metrics or {}, directory, reason)
    return list(jobs.values()), ended


def _account(opened: optuna.Study, whole: summary.Summary, seconds: float) -> list[str]:
    counted = Counter(
        WORDS[trial.state] for trial in opened.trials if trial.state.is_finished() and not study.died(trial)
    )
    lines = [", ".join(f"{number} {word}" for word, number in counted.items()) + f", after {duration(seconds)}"]
    if whole.best:
        lines.append(f"best {whole.objective}: {whole.best}")
    return lines + [f"failed: {line}" for line in whole.failures]
