"""A sweep in MLflow: one parent run, described by what is swept, and a child run for each of its jobs."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twinnet.core import config, paths
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment, Tracking
from twinnet.core.secrets import mask
from twinnet.tracking import description
from twinnet.tracking.live import LiveRuns, await_ended, call_follower
from twinnet.tracking.process import this_process
from twinnet.tracking.publish import send
from twinnet.tracking.store import PARENT, PROCESS, RESULT, Store, StoreError
from twinnet.training.run import Run
from twinnet.training.run_info import now

log = logging.getLogger(__name__)

KIND = "twinnet.sweep"  # on the parent and its children: which sweep; the parent has no KEY
KEY = "twinnet.key"  # on a child: its result key


@dataclass(frozen=True)
class Sweep:
    """A sweep before its first job starts."""

    key: str  # the same if the same jobs are asked for again
    experiment: str  # in MLflow, as `experiment_name` gives it
    name: str
    note: str  # Markdown
    swept: dict[str, str]  # key -> its values, as a parameter of the parent
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A finished run in the store."""

    run_id: str
    metrics: dict[str, float]
    result: str
    parent: str


@dataclass(frozen=True)
class SweepResult:
    """The end of a sweep."""

    status: str  # FINISHED, FAILED or KILLED
    note: str
    tags: dict[str, str]
    metrics: dict[str, float]  # of the best configuration
    artifacts: list[str]  # files


@dataclass(frozen=True)
class SweepRun:
    """A result on this disk, and the tags of its run in the store."""

    key: str
    directory: Path
    tags: dict[str, str]


def experiment_name(experiment: Experiment) -> str:
    """Return the MLflow experiment of the jobs, and of their parent run."""
    return description.experiment_name(config.plain(experiment))


def begin(settings: Tracking, sweep: Sweep, *, root: Path | None = None) -> str | None:
    """Return the id of the sweep's parent run: a new one, or that of the same sweep begun before.

    None if tracking is off, or if the store does not answer (logged).
    """
    if not settings.enabled:
        return None
    try:
        return call_follower(_parent, settings, root, process=this_process(), **asdict(sweep))
    except StoreError as error:
        log.warning("%s; the sweep goes on without its parent run", error)
        return None


def _parent(store: Store, process: str, **values: Any) -> str:
    from mlflow.entities import Param, RunTag  # 3 s

    sweep = Sweep(**values)
    experiment = store.experiment(sweep.experiment, description.experiment(sweep.experiment))
    tags = sweep.tags | {KIND: sweep.key, PROCESS: process, "mlflow.note.content": sweep.note}
    tags = {key: mask(value, store.address) for key, value in tags.items()}

    def parents() -> list[str]:
        same = store.search(f"tags.`{KIND}` = '{sweep.key}'", [experiment])
        return [run.info.run_id for run in same if KEY not in run.data.tags]

    if not parents():
        made = store.client.create_run(experiment, tags=tags, run_name=description.short_name(sweep.name)).info.run_id
        store.client.log_batch(made, params=[Param(key, value) for key, value in sweep.swept.items()])
        if parents()[0] != made:  # another host was quicker
            store.client.delete_run(made)
    found = parents()[0]
    store.client.update_run(found, status="RUNNING")
    store.client.log_batch(found, tags=[RunTag(key, value) for key, value in tags.items()])
    return found


def finished(settings: Tracking, keys: Iterable[str], *, root: Path | None = None) -> dict[str, list[StoredRun]]:
    """Return result key -> its finished runs in the store, the earliest first. Raises StoreError."""
    stored = call_follower(_finished, settings, root, keys=list(keys))
    return {key: [StoredRun(**run) for run in runs] for key, runs in stored.items()}


def _finished(store: Store, keys: list[str]) -> dict[str, list[dict[str, Any]]]:
    from twinnet.tracking.log_run import final_metrics  # imports MLflow: 3 s

    found: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    for run in store.search(f"tags.`{KEY}` LIKE '%' AND attributes.status = 'FINISHED'"):
        tags = run.data.tags
        if tags[KEY] in found:
            stored = StoredRun(
                run.info.run_id, final_metrics(run.data.metrics), tags.get(RESULT, ""), tags.get(PARENT, "")
            )
            found[tags[KEY]].append(asdict(stored))
    return found


def sync_children(
    settings: Tracking, parent: str | None, children: Iterable[SweepRun], *, root: Path | None = None
) -> dict[str, str]:
    """Leave exactly one finished run in the store for each result on this disk; return result key -> run id.

    A job that was killed before the store had all of it is sent now. A store that does not answer is a line in the
    log: the same command sends what is missing another time.
    """
    parents = {PARENT: parent} if parent else {}
    children = list(children)
    live_runs = LiveRuns(root or paths.main_root())
    await_ended(live_runs, settings)  # the jobs did not
    try:
        ids = call_follower(
            _only_runs, settings, root, directories={child.key: str(child.directory) for child in children}
        )
        missing = [child for child in children if ids[child.key] is None]
        runs = []
        for child in missing:
            try:
                runs.append((Run.read(child.directory), child.tags | parents))
            except DataError as error:
                log.warning("%s", error)
        sent, reason = send(runs, settings, live_runs) if runs else ({}, "")
    except (StoreError, DataError) as error:
        ids, missing, sent, reason = {}, [], {}, str(error)
    if reason:
        log.warning("%s; the sweep is not complete in the store; the same command sends what is missing", reason)
    ids |= {child.key: sent[child.directory].run_id for child in missing if child.directory in sent}
    return {key: run_id for key, run_id in ids.items() if run_id}


def _only_runs(store: Store, directories: dict[str, str]) -> dict[str, str | None]:
    """Return result key -> its run, None if there is none; delete others, sent by two processes at once."""
    ids: dict[str, str | None] = {}
    for key, runs in _finished(store, list(directories)).items():
        result = Run(Path(directories[key])).content_hash
        same = [run["run_id"] for run in runs if run["result"] == result]
        for twin in same[1:]:
            store.client.delete_run(twin)
        ids[key] = same[0] if same else None
    return ids


def end(settings: Tracking, parent: str, result: SweepResult, *, root: Path | None = None) -> None:
    """Close the parent run with the summary."""
    try:
        call_follower(_close, settings, root, parent=parent, **asdict(result))
    except StoreError as error:
        log.warning("%s; the sweep's summary is in its folder only", error)


def _close(store: Store, parent: str, **values: Any) -> None:
    from mlflow.entities import Metric, RunTag  # 3 s

    result = SweepResult(**values)
    tags = (result.tags | {"mlflow.note.content": result.note}).items()
    store.client.log_batch(
        parent,
        metrics=[Metric(key, value, now(), 0) for key, value in result.metrics.items()],
        tags=[RunTag(key, mask(value, store.address)) for key, value in tags],
    )
    for file in result.artifacts:
        store.client.log_artifact(parent, file, "summary")
    store.client.set_terminated(parent, result.status)
