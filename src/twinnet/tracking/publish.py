"""Send finished runs to the store, each exactly once: what `publish` and the end of a sweep do."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from twinnet.core import paths
from twinnet.core.errors import DataError, one_line_text
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking.live import DONE, END, PROBLEM, RECORD, LiveRun, LiveRuns, await_follower, finished_end
from twinnet.tracking.store import stored_results
from twinnet.training.run import METRICS, Run, finished_runs

log = logging.getLogger(__name__)

PUBLISHED = {"published": "from its record on disk"}
REWRITE_SECONDS = 1.0  # after which it shows that another process empties a folder


@dataclass(frozen=True)
class PublishResult:
    """What a call of `publish` did, as names of runs."""

    sent: tuple[str, ...] = ()
    present: tuple[str, ...] = ()  # had their run already
    unsent: tuple[str, ...] = ()  # the store did not answer, or refused them


def publish(runs: Path, settings: Tracking | None = None, *, root: Path | None = None) -> PublishResult:
    """Send each finished run under `runs`, and each run that waits in build/live/; a second call changes nothing.

    A store that does not answer is one line in the log, not an error: the runs stay on disk, and the next call sends
    them. Raises DataError, after the others are sent, that names each folder that claims to be a run and is not.
    """
    settings = settings or Tracking()
    if not settings.enabled:
        return PublishResult()
    live_runs = LiveRuns(root or paths.main_root())
    for store, count in live_runs.others().items():
        wait = "run in build/live/ waits" if count == 1 else "runs in build/live/ wait"
        log.warning("%d %s for another store, %s; MLFLOW_TRACKING_URI chooses it", count, wait, store)
    complete, broken = _read(finished_runs(runs))
    left, results, damaged = _adopt(live_runs)
    if complete or left:
        others = [run for run in complete if run.content_hash not in results]
        result, reason = _publish(others, left, live_runs, settings)
        store, total = live_runs.store, sum(map(len, (result.sent, result.present, result.unsent)))
        if result.unsent:
            log.warning(
                "%s; not published: %s; they are kept in %s, and `python -m pipelines.publish` sends them",
                reason, ", ".join(result.unsent), runs,
            )  # fmt: skip
        else:
            present, sent = len(result.present), len(result.sent)
            log.info("%d of %d runs were in %s already, %d were sent", present, total, store, sent)
    else:
        result = PublishResult()
    if broken or damaged:
        raise DataError("; ".join([*broken, *damaged]))
    return result


def send(
    runs: Sequence[tuple[Run, Mapping[str, str]]],
    settings: Tracking,
    live_runs: LiveRuns,
    left: Iterable[LiveRun] = (),
) -> tuple[dict[Path, dict[str, Any]], str]:
    """Let the follower send finished runs, with their tags; wait for them and for those `left` in build/live/.

    Return done.json of those that the store has now, by their directory, and the reason why it lacks others.
    """
    until = time.monotonic() + settings.deadline_seconds
    waiting: dict[Path, LiveRun] = {}
    try:
        for run, tags in runs:
            live = waiting[run.directory] = LiveRun.create(live_runs, settings, has_reader=True)
            masked = {key: mask(value, live_runs.uri) for key, value in tags.items()}
            live.write(RECORD, {"info": asdict(run.info), "tags": masked})
            live.write(END, finished_end(run, _figures(run)))
        live_runs.start_follower(settings)
        every = [*left, *waiting.values()]
        reason = await_follower(live_runs, every, settings, lambda: until - time.monotonic())
        done = {directory: live.read(DONE) or {} for directory, live in waiting.items()}
    finally:
        for live in waiting.values():
            live.remove()
    reason = "; ".join(filter(None, [reason, *(values["broken"] for values in done.values() if "broken" in values)]))
    return {directory: values for directory, values in done.items() if "run_id" in values}, reason


def _publish(
    others: Sequence[Run], left: Mapping[LiveRun, str], live_runs: LiveRuns, settings: Tracking
) -> tuple[PublishResult, str]:
    """Send the runs; those `left` in build/live/, with their names, go on from there."""
    stored = stored_results(live_runs.uri)
    present = [run for run in others if run.content_hash in stored and (stored[run.content_hash] or not _figures(run))]
    missing = [(run, PUBLISHED) for run in others if run not in present]
    sent, reason = send(missing, settings, live_runs, left) if missing or left else ({}, "")
    is_new = {run.name: False for run in present}
    is_new |= {run.name: sent[run.directory]["is_new"] for run in others if run.directory in sent}
    is_new |= {name: True for live, name in left.items() if not live.folder.exists()}
    wanted = dict.fromkeys([*(run.name for run in others), *left.values()])
    return PublishResult(
        tuple(name for name in wanted if is_new.get(name) is True),
        tuple(name for name in wanted if is_new.get(name) is False),
        tuple(name for name in wanted if name not in is_new),
    ), reason


def _figures(run: Run) -> list[Path]:
    """Return the run's own figures, or those that `compare` has drawn of it, in the same checkout or DVC copy."""
    directory = run.directory.absolute()
    root = directory.parent.parent
    return run.figures or sorted((root / paths.REPORTS / directory.relative_to(root)).glob("*.png"))


def _adopt(live_runs: LiveRuns) -> tuple[dict[LiveRun, str], set[str], list[str]]:
    """Let the follower of this user send the runs that wait in build/live/ now.

    Return their names (of the folder of a finished run, else of the experiment), their results, and for each damaged
    folder the reason.
    """
    names, results, reasons = dict[LiveRun, str](), set[str](), list[str]()
    for live in filter(lambda live: live.is_sendable, live_runs):
        try:
            end, record = live.read(END) or {}, live.read(RECORD)
        except DataError as error:
            reasons.append(str(error))
            continue
        if record is None:  # sent meanwhile
            continue
        names[live] = str(record["info"]["config"]["name"])
        if "directory" in end:
            run = Run(Path(end["directory"]))
            names[live] = run.name
            results.add(end["result"])
            live.write(END, end | {"figures": [*map(str, _figures(run))]})  # `compare` has drawn some since
        live.adopt(live_runs.user)
        live.forget(PROBLEM)  # so that the follower tries again now
    return names, results, reasons


def _read(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs whose files are whole, and for each other folder the reason; one that is emptied is skipped."""
    complete, reasons = [], {}
    for folder in folders:
        try:
            complete.append(Run.read(folder))
        except DataError as error:
            reasons[folder] = one_line_text(error)
    if reasons:
        time.sleep(REWRITE_SECONDS)
    for folder in [folder for folder in reasons if not (folder / METRICS).exists() or _is_written_by_dvc(folder)]:
        log.warning("%s is skipped: another process is replacing it", folder)
        del reasons[folder]
    return complete, list(reasons.values())


def _is_written_by_dvc(folder: Path) -> bool:
    """Return whether DVC runs the stage of this folder, as its lock of reads and writes says."""
    folder = folder.absolute()
    try:
        locks = json.loads((folder.parents[1] / ".dvc" / "tmp" / "rwlock").read_text("utf-8"))
        return psutil.pid_exists(int(locks["write"][str(folder)]["pid"]))
    except (OSError, ValueError, LookupError, TypeError):
        return False
