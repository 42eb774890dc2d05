"""A sweep in MLflow: one parent run, described by what is swept, and a child run for each of its jobs."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from twinnet.core import paths
from twinnet.core.errors import DataError
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking import description
from twinnet.tracking.store import PROCESS, Store, StoreError, opened, this_process
from twinnet.training.run import Run, content_hash

log = logging.getLogger(__name__)

KIND = "twinnet.sweep"  # on the parent and its children: which sweep; the parent has no KEY
KEY = "twinnet.key"  # on a child: its result key
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Sweep:
    """What a sweep is, before any of its jobs starts."""

    key: str  # the same whenever the same jobs are asked for
    dataset: str  # names the MLflow experiment
    name: str
    note: str  # Markdown
    swept: dict[str, str]  # key -> its values, as a parameter of the parent
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """A finished run in the store."""

    run_id: str
    metrics: dict[str, float]
    result: str
    parent: str


@dataclass(frozen=True)
class Ending:
    """How a sweep went."""

    status: str  # FINISHED, FAILED or KILLED
    note: str
    tags: dict[str, str]
    metrics: dict[str, float]  # of the best configuration
    artifacts: list[Path]


@dataclass(frozen=True)
class Child:
    """A result on this disk, and the tags of the run that it has in the store."""

    key: str
    directory: Path
    tags: dict[str, str]


def begin(settings: Tracking, sweep: Sweep, *, root: Path | None = None) -> str | None:
    """The id of the sweep's parent run: a new one, or that of the same sweep begun before.

    None where tracking is off; where the store does not answer, with a line in the log.
    """
    if not settings.enabled:
        return None
    try:
        with _lock(root), opened(settings, root) as store:
            store.bury()
            return _parent(store, sweep)
    except StoreError as error:
        log.warning("%s; the sweep does without its parent run", error)
        return None


def _parent(store: Store, sweep: Sweep) -> str:
    experiment = store.experiment(sweep.dataset, description.experiment(sweep.dataset))
    tags = sweep.tags | {KIND: sweep.key, PROCESS: this_process(), "mlflow.note.content": sweep.note}
    tags = {key: mask(value, store.address) for key, value in tags.items()}

    def parents() -> list[str]:
        same = store.search(f"tags.`{KIND}` = '{sweep.key}'", [experiment])
        return [run.info.run_id for run in same if KEY not in run.data.tags]

    if not parents():
        made = store.client.create_run(experiment, tags=tags, run_name=sweep.name).info.run_id
        for key, value in sweep.swept.items():
            store.client.log_param(made, key, value)
        if parents()[0] != made:  # another host was quicker
            store.client.delete_run(made)
    found = parents()[0]
    store.client.update_run(found, status="RUNNING")
    for key, value in tags.items():
        store.client.set_tag(found, key, value)
    return found


def finished(settings: Tracking, keys: Iterable[str], *, root: Path | None = None) -> dict[str, list[Stored]]:
    """Result key -> its finished runs in the store, the earliest first. Raises StoreError."""
    wanted = set(keys)
    with opened(settings, root) as store:
        return _finished(store, wanted)


def _finished(store: Store, wanted: set[str]) -> dict[str, list[Stored]]:
    from twinnet.tracking.log_run import RESULT  # imports MLflow

    found: dict[str, list[Stored]] = {}
    for run in store.search(f"tags.`{KEY}` LIKE '%' AND attributes.status = 'FINISHED'"):
        tags = run.data.tags
        if tags[KEY] in wanted:
            stored = Stored(run.info.run_id, dict(run.data.metrics), tags.get(RESULT, ""), tags.get(PARENT, ""))
            found.setdefault(tags[KEY], []).append(stored)
    return found


def settle(
    settings: Tracking, parent: str | None, children: Iterable[Child], *, root: Path | None = None
) -> dict[str, str]:
    """Leave exactly one finished run in the store for each result on this disk; result key -> run id.

    A job that was killed between its last file and its last word to the store is sent now. A store that does not
    answer is a line in the log: the same command sends what is missing another time.
    """
    try:
        with _lock(root), opened(settings, root) as store:
            store.bury()
            children = list(children)
            present = _finished(store, {child.key for child in children})
            return {child.key: _settle(store, parent, child, present.get(child.key, [])) for child in children}
    except (StoreError, DataError) as error:
        log.warning("%s; the sweep is not complete in the store; the same command sends what is missing", error)
        return {}


def _settle(store: Store, parent: str | None, child: Child, present: list[Stored]) -> str:
    from twinnet.tracking import log_run  # imports MLflow

    result = content_hash(child.directory)
    same = [stored.run_id for stored in present if stored.result == result]
    for twin in same[1:]:  # sent by two processes at once
        store.client.delete_run(twin)
    if same:
        return same[0]
    record = Run.read(child.directory)
    run_id = log_run.start(store, record.info, child.tags | ({PARENT: parent} if parent else {}))
    log_run.finish(store, run_id, record)
    return run_id


def end(settings: Tracking, parent: str, ending: Ending, *, root: Path | None = None) -> None:
    """Close the parent run with the summary."""
    try:
        with opened(settings, root) as store:
            _close(store, parent, ending)
    except StoreError as error:
        log.warning("%s; the sweep's summary is in its folder only", error)


def _close(store: Store, parent: str, ending: Ending) -> None:
    client = store.client
    for key, value in (ending.tags | {"mlflow.note.content": ending.note}).items():
        client.set_tag(parent, key, mask(value, store.address))
    for key, number in ending.metrics.items():
        client.log_metric(parent, key, number)
    for file in ending.artifacts:
        client.log_artifact(parent, str(file), "summary")
    client.set_terminated(parent, ending.status)


def _lock(root: Path | None) -> FileLock:
    """One process of this checkout at a time."""
    folder = (root or paths.main_root()) / "build"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "sweep.lock")
