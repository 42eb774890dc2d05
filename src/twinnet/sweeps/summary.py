"""What a sweep found: its table, its best configuration, its failures, and the pictures of both."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from twinnet.core.errors import ConfigError
from twinnet.core.problem import metric
from twinnet.core.schema import Experiment, ImageData
from twinnet.sweeps import job as outcomes
from twinnet.sweeps.expand import Job
from twinnet.sweeps.job import Outcome

TABLE = "summary.csv"
BY_SEED = "seeds.csv"
OF_A_SWEEP = ("resume=", "fail_fast=", "objective=", "engine.batch_configs=")  # mean nothing to one job
TOP = 5  # configurations in the description of the parent run


@dataclass(frozen=True)
class Summary:
    table: pd.DataFrame  # one row a job, in the order of the grid
    averaged: pd.DataFrame  # one row a configuration, over its seeds; the best first
    swept: tuple[str, ...]
    objective: str
    best: str  # the best configuration in words; empty where nothing is finished
    best_metrics: dict[str, float]
    failures: tuple[str, ...]  # one line each: what, why, and the command that runs it alone
    note: str  # Markdown


def check_objective(objective: str, experiment: Experiment) -> None:
    """Raise ConfigError where a run of the experiment has no such metric."""
    splits = ["valid", "train", *(["test"] if isinstance(experiment.data, ImageData) else [])]
    known = [f"{split}/{name}" for split in splits for name in ("loss", metric(experiment.data.task))]
    if objective not in known:
        raise ConfigError(
            f"objective: expected one of {', '.join(known)} for the data set {experiment.data.name!r}; "
            f"received {objective}"
        )


def ascending(objective: str) -> bool:
    """Whether less is better."""
    return not objective.endswith("accuracy")


def summarise(jobs: Sequence[Job], ended: Mapping[str, Outcome], objective: str) -> Summary:
    table = _table(jobs, ended)
    swept = tuple(jobs[0].swept) if jobs else ()
    averaged = _averaged(table, swept, objective)
    failures = tuple(
        f"{job.label}: {ended[job.key].reason}; alone: {alone(job)}"
        for job in jobs
        if job.key in ended and ended[job.key].status == outcomes.FAILED
    )
    best, metrics = _best(table, averaged, swept, objective)
    return Summary(
        table, averaged, swept, objective, best, metrics, failures, _note(averaged, objective, best, failures)
    )


def alone(job: Job) -> str:
    """The command that runs this job by itself."""
    words = [word for word in job.overrides if not word.startswith(OF_A_SWEEP)]
    return f"python -m twinnet.train {shlex.join(words)}"


def announcement(jobs: Sequence[Job], overrides: Sequence[str]) -> str:
    """What is swept, in Markdown, before anything is known of how it goes."""
    swept = {name: list(dict.fromkeys(job.swept[name] for job in jobs)) for name in jobs[0].swept}
    lines = [f"A sweep of **{len(jobs)} jobs** over {', '.join(f'`{name}`' for name in swept) or 'nothing'}."]
    lines += [f"- `{name}`: {', '.join(values)}" for name, values in swept.items()]
    lines.append(f"\n**Again.** `python -m twinnet.train -m {shlex.join(overrides)}` trains only what is missing.")
    return "\n".join(lines)


def write(summary: Summary, folder: Path, runs: Mapping[str, str]) -> list[Path]:
    """summary.csv, seeds.csv where seeds are swept, and the figures; `runs` maps result keys to MLflow run ids."""
    from twinnet.sweeps import figures  # matplotlib, when it is needed

    folder.mkdir(parents=True, exist_ok=True)
    table = summary.table.assign(run_id=[runs.get(key, "") for key in summary.table["key"]])
    table.to_csv(folder / TABLE, index=False)
    files = [folder / TABLE]
    if "seed" in summary.swept and len(summary.averaged):
        summary.averaged.to_csv(folder / BY_SEED, index=False)
        files.append(folder / BY_SEED)
    return files + figures.draw(summary.table, summary.swept, summary.objective, folder)


def _table(jobs: Sequence[Job], ended: Mapping[str, Outcome]) -> pd.DataFrame:
    rows = []
    for number, job in enumerate(jobs):
        outcome = ended.get(job.key) or Outcome(job.key, "not run")
        metrics = {name: value for name, value in outcome.metrics.items() if name not in job.swept}
        told = {"directory": outcome.directory, "reason": outcome.reason, "key": job.key, "log": outcome.log}
        rows.append({"job": number, "status": outcome.status} | job.swept | metrics | told)
    return pd.DataFrame(rows, columns=None if rows else ["job", "status", "key"])


def _averaged(table: pd.DataFrame, swept: Sequence[str], objective: str) -> pd.DataFrame:
    """Mean, standard deviation and number of seeds of the objective for each configuration, the best first."""
    done = table[table["status"].isin(outcomes.DONE)]
    if objective not in done or not len(done):
        return pd.DataFrame()
    keys = [name for name in swept if name != "seed"]
    grouped = done.groupby(keys, sort=False)[objective] if keys else done.assign(_="").groupby("_")[objective]
    averaged = grouped.agg(["mean", "std", "count"]).reset_index().drop(columns="_", errors="ignore")
    averaged = averaged.rename(columns={"mean": objective, "count": "seeds"})
    return averaged.sort_values(objective, ascending=ascending(objective), ignore_index=True)


def _best(
    table: pd.DataFrame, averaged: pd.DataFrame, swept: Sequence[str], objective: str
) -> tuple[str, dict[str, float]]:
    """The best configuration in words, and the metrics of it, averaged over its seeds."""
    if not len(averaged):
        return "", {}
    first = averaged.iloc[0]
    keys = [name for name in swept if name != "seed"]
    chosen = table[table["status"].isin(outcomes.DONE)]
    for name in keys:
        chosen = chosen[chosen[name] == first[name]]
    metrics = chosen[[name for name in table if "/" in name]].mean()
    words = " ".join(f"{name}={first[name]}" for name in keys) or "the one configuration"
    spread = f" ± {first['std']:.4f} over {int(first['seeds'])} seeds" if first["seeds"] > 1 else ""
    told = f"{words}: {objective} {first[objective]:.4f}{spread}"
    return told, {str(name): float(value) for name, value in metrics.items() if np.isfinite(value)}


def _note(averaged: pd.DataFrame, objective: str, best: str, failures: Sequence[str]) -> str:
    parts = [f"**Best.** {best}" if best else "**Nothing is finished.**"]
    if len(averaged) > 1:
        shown = averaged.head(TOP)
        lines = ["| " + " | ".join(shown.columns) + " |", "| --- " * len(shown.columns) + "|"]
        for row in shown.itertuples(index=False):
            cells = [
                "" if value != value else f"{value:.4f}" if isinstance(value, float) else str(value) for value in row
            ]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    if failures:
        parts.append("**Failed.**\n" + "\n".join(f"- {line}" for line in failures))
    return "\n\n".join(parts)
