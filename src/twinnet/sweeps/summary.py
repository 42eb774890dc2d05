"""Summary of a sweep: the table of its jobs, its best configuration and its failures."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from twinnet.core import paths
from twinnet.core.errors import ConfigError
from twinnet.core.problem import metric
from twinnet.core.schema import Experiment, ImageData
from twinnet.sweeps.job import DONE, Job, JobResult, Status

TABLE = "summary.csv"
BY_SEED = "seeds.csv"
TOP = 5  # configurations in the description of the parent run


@dataclass(frozen=True)
class Summary:
    table: pd.DataFrame  # one row a job, in the order of the grid
    averaged: pd.DataFrame  # one row a configuration, over its seeds; the best first
    swept: tuple[str, ...]
    objective: str
    best: str  # the best configuration in words; empty if no job is finished
    best_key: str  # of the best job of that configuration
    best_metrics: dict[str, float]  # averaged over the seeds
    failures: tuple[str, ...]  # one line each: the job, the reason, the command that trains it alone
    note: str  # Markdown

    def report_lines(self) -> list[str]:
        best = [f"best {self.objective}: {self.best}"] if self.best else []
        return best + [f"failed: {line}" for line in self.failures]


def check_objective(objective: str, experiment: Experiment) -> None:
    """Raise ConfigError if a run of the experiment has no such metric."""
    splits = ["valid", "train", *(["test"] if isinstance(experiment.data, ImageData) else [])]
    known = [f"{split}/{name}" for split in splits for name in ("loss", metric(experiment.data.task))]
    if objective not in known:
        raise ConfigError(
            f"objective: expected one of {', '.join(known)} for the data set {experiment.data.name!r}; "
            f"received {objective}"
        )


def minimizes(objective: str) -> bool:
    return not objective.endswith("accuracy")


def summarise(jobs: Sequence[Job], results: Mapping[str, JobResult], objective: str) -> Summary:
    table = _table(jobs, results)
    swept = tuple(jobs[0].swept) if jobs else ()
    averaged = _average_seeds(table, swept, objective)
    failures = tuple(
        f"{job.label}: {results[job.key].reason}; alone: {job.rerun_command}"
        for job in jobs
        if job.key in results and results[job.key].status is Status.failed
    )
    best, best_key, metrics = _best(table, averaged, swept, objective)
    note = _note(averaged, best, failures)
    return Summary(table, averaged, swept, objective, best, best_key, metrics, failures, note)


def sweep_description(jobs: Sequence[Job], overrides: Sequence[str]) -> str:
    """Return in Markdown what is swept, before any job has run."""
    swept = swept_values(jobs)
    lines = [f"A sweep of **{len(jobs)} jobs** over {', '.join(f'`{name}`' for name in swept) or 'nothing'}."]
    lines += [f"- `{name}`: {values}" for name, values in swept.items()]
    lines.append(f"\n**Resume.** `python -m twinnet.train -m {shlex.join(overrides)}` trains only what is missing.")
    return "\n".join(lines)


def swept_values(jobs: Sequence[Job]) -> dict[str, str]:
    """Return swept key -> its values in the order of the sweep: `1, 2, 3`."""
    return {name: ", ".join(dict.fromkeys(job.swept[name] for job in jobs)) for name in jobs[0].swept}


def write_tables(summary: Summary, folder: Path, runs: Mapping[str, str]) -> list[Path]:
    """Write summary.csv, and seeds.csv if seeds are swept; `runs` maps keys to MLflow run ids."""
    table = summary.table.assign(run_id=[runs.get(key, "") for key in summary.table["key"]])
    tables = {folder / TABLE: table}
    if "seed" in summary.swept and len(summary.averaged):
        tables[folder / BY_SEED] = summary.averaged
    for file, content in tables.items():
        paths.write_text(file, content.to_csv(index=False))
    return list(tables)


def _table(jobs: Sequence[Job], results: Mapping[str, JobResult]) -> pd.DataFrame:
    rows = []
    for number, job in enumerate(jobs):
        result = results.get(job.key) or JobResult(job.key, Status.missing)
        metrics = {name: value for name, value in result.metrics.items() if name not in job.swept}
        columns = {"directory": result.directory, "reason": result.reason, "key": job.key, "log": result.log}
        rows.append({"job": number, "status": result.status} | job.swept | metrics | columns)
    return pd.DataFrame(rows, columns=None if rows else ["job", "status", "key"])


def _average_seeds(table: pd.DataFrame, swept: Sequence[str], objective: str) -> pd.DataFrame:
    """Return mean, standard deviation and number of seeds of the objective of each configuration, the best first."""
    done = table[table["status"].isin(DONE)]
    if objective not in done or not len(done):
        return pd.DataFrame()
    keys = [name for name in swept if name != "seed"]
    grouped = done.groupby(keys, sort=False)[objective] if keys else done.assign(_="").groupby("_")[objective]
    averaged = grouped.agg(["mean", "std", "count"]).reset_index().drop(columns="_", errors="ignore")
    averaged = averaged.rename(columns={"mean": objective, "count": "seeds"})
    return averaged.sort_values(objective, ascending=minimizes(objective), ignore_index=True)


def _best(
    table: pd.DataFrame, averaged: pd.DataFrame, swept: Sequence[str], objective: str
) -> tuple[str, str, dict[str, float]]:
    """Return the best configuration in words, the key of its best job, and its metrics averaged over its seeds."""
    if not len(averaged):
        return "", "", {}
    first = averaged.iloc[0]
    keys = [name for name in swept if name != "seed"]
    chosen = table[table["status"].isin(DONE)]
    for name in keys:
        chosen = chosen[chosen[name] == first[name]]
    scores = chosen[objective].astype(float)
    best_key = str(chosen.loc[scores.idxmin() if minimizes(objective) else scores.idxmax(), "key"])
    metrics = chosen[[name for name in table if "/" in name]].mean()
    name = " ".join(f"{name}={first[name]}" for name in keys) or "the one configuration"
    spread = f" ± {first['std']:.4f} over {int(first['seeds'])} seeds" if first["seeds"] > 1 else ""
    text = f"{name}: {objective} {first[objective]:.4f}{spread}"
    return text, best_key, {str(key): float(value) for key, value in metrics.items() if np.isfinite(value)}


def _note(averaged: pd.DataFrame, best: str, failures: Sequence[str]) -> str:
    parts = [f"**Best.** {best}" if best else "**Nothing is finished.**"]
    if len(averaged) > 1:
        parts.append(averaged.head(TOP).to_markdown(index=False, floatfmt=".4f", disable_numparse=[0]))
    if failures:
        parts.append("**Failed.**\n" + "\n".join(f"- {line}" for line in failures))
    return "\n\n".join(parts)
