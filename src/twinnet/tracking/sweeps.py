"""A sweep in MLflow: one parent run, described by what is swept, and a child run for each of its jobs."""

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twinnet.core import config, paths
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment, Tracking
from twinnet.core.secrets import mask
from twinnet.tracking import description
from twinnet.tracking.curves import final_metrics
from twinnet.tracking.live import LOCKS, LiveRuns, await_ended, call_follower
from twinnet.tracking.process import has_died, this_process
from twinnet.tracking.publish import send
from twinnet.tracking.store import PARENT, PROCESS, RESULT, Store, StoreError
from twinnet.training.run import Run
from twinnet.training.run_info import now

log = logging.getLogger(__name__)

KIND = "twinnet.sweep"  # on the parent and its children: which sweep; the parent has no KEY
KEY = "twinnet.key"  # on a child: its result key
LEADER = "twinnet.leader"  # on a child: the process of the sweep that launched it


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
class SweepResult:
    """The end of a sweep."""

    status: str  # FINISHED, FAILED or KILLED
    note: str
    tags: dict[str, str]
    metrics: dict[str, float]  # of the best configuration
    artifacts: list[str]  # files


@dataclass(frozen=True)
class SweepRun:
    """A result, and the tags of its run in the store."""

    key: str
    directory: Path | None  # None: on the disk of another machine
    tags: dict[str, str]
    seconds: float = 0.0  # that it took there


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


def finished(settings: Tracking, keys: Iterable[str], *, root: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return result key -> its finished runs in the store, the earliest first. Raises StoreError.

    A run is its `run_id`, final `metrics`, `result` (what was computed) and `leader`.
    """
    return call_follower(_finished, settings, root, keys=list(keys))


def _finished(store: Store, keys: list[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    for run in store.search(f"tags.`{KEY}` LIKE '%' AND attributes.status = 'FINISHED'"):
        tags = run.data.tags
        if tags[KEY] in found:
            stored = {"run_id": run.info.run_id, "metrics": final_metrics(run.data.metrics)}
            found[tags[KEY]].append(stored | {"result": tags.get(RESULT, ""), "leader": tags.get(LEADER, "")})
    return found


def sync_children(
    settings: Tracking, parent: str | None, children: Iterable[SweepRun], *, root: Path | None = None
) -> dict[str, str]:
    """Leave exactly one finished run in the store for each result; return result key -> run id.

    A job that was killed before the store had all of it is sent now; other machines send what they have trained. A
    store that does not answer is a line in the log: the same command sends what is missing another time.
    """
    parents = {PARENT: parent} if parent else {}
    children = list(children)
    trained = {child.key: str(child.directory or child.seconds) for child in children}
    try:
        live_runs = LiveRuns(root or paths.main_root())
        await_ended(live_runs, settings)  # the jobs did not
        ids = _await_elsewhere(trained, settings, root)
        missing = {child.directory: child for child in children if child.directory and ids[child.key] is None}
        runs = []
        for directory, child in missing.items():
            try:
                runs.append((Run.read(directory), child.tags | parents))
            except DataError as error:
                log.warning("%s", error)
        sent, reason = send(runs, settings, live_runs) if runs else ({}, "")
    except (StoreError, DataError) as error:
        ids, missing, sent, reason = {}, {}, {}, str(error)
    if reason:
        log.warning("%s; the sweep is not complete in the store; the same command sends what is missing", reason)
    ids |= {child.key: sent[directory]["run_id"] for directory, child in missing.items() if directory in sent}
    return {key: run_id for key, run_id in ids.items() if run_id}


def _await_elsewhere(trained: dict[str, str], settings: Tracking, root: Path | None) -> dict[str, str | None]:
    """Return the result of `_only_runs`, as soon as other machines have sent what they trained, or are slow."""
    known, until = dict[str, str | None](), 0.0
    while True:
        ids = call_follower(_only_runs, settings, root, trained=trained, leader=this_process())
        n_late = sum(run_id is None and not Path(trained[key]).is_absolute() for key, run_id in ids.items())
        if ids != known:
            known, until = ids, time.monotonic() + settings.patience_seconds
        if not n_late:
            return ids
        if time.monotonic() > until:
            log.warning("the store lacks %d runs that other machines have trained, and send if they can", n_late)
            return ids
        time.sleep(0.5)


def _only_runs(store: Store, trained: dict[str, str], leader: str) -> dict[str, str | None]:
    """Return result key -> its run, None if there is none; delete others of the same training or the same job.

    `trained` maps a key to the run's directory, or to the seconds it took on another machine. Two processes may have
    sent a result at once; a machine that was cut off may have trained a job that was then trained again elsewhere.
    """
    ids: dict[str, str | None] = {}
    for key, runs in _finished(store, list(trained)).items():
        ours = [run for run in runs if run["leader"] == leader]
        is_here = Path(trained[key]).is_absolute()
        if is_here:
            result = Run(Path(trained[key])).content_hash
            same = [run for run in runs if run["result"] == result]
        else:
            same = [run for run in ours if str(run["metrics"].get("seconds")) == trained[key]]
        ids[key] = same[0]["run_id"] if same else None
        if same or is_here:  # otherwise this machine's run may never arrive, and the others stay
            for twin in {run["run_id"] for run in [*same, *ours]} - {ids[key]}:
                store.client.delete_run(twin)
    return ids


def give_up_lost(settings: Tracking, sweep: str, lost: Sequence[str] = (), *, root: Path | None = None) -> None:
    """Mark the runs that an ended sweep left RUNNING as KILLED: their machines were lost.

    Those are its own, those of its earlier leaders, and those of `lost` keys, whoever launched them.
    """
    locks = str((root or paths.main_root()) / LOCKS)
    with suppress(StoreError):  # `sync_children` reports it
        call_follower(_give_up_lost, settings, root, sweep=sweep, leader=this_process(), locks=locks, lost=list(lost))


def _give_up_lost(store: Store, sweep: str, leader: str, locks: str, lost: list[str]) -> None:
    for run in list(store.search(f"tags.`{KIND}` = '{sweep}' AND attributes.status = 'RUNNING'")):
        tags = run.data.tags
        leads = tags.get(LEADER, "")
        if KEY in tags and (leads == leader or tags[KEY] in lost or has_died(leads, Path(locks))):
            host = tags.get(PROCESS, "").partition(" ")[0]
            store.give_up(run.info.run_id, f"the sweep has ended, and {host} did not report the end of this run")


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
