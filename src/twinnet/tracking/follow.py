"""The follower, `python -m twinnet.tracking.follow ROOT`: it sends the runs under build/live/ to the MLflow store.

One follower serves all trainings of a checkout; it ends when nothing has been left to do for a moment.
"""

import importlib
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from filelock import Timeout

from twinnet.core.errors import ConfigError, DataError, one_line_text
from twinnet.core.garbage import collect_rarely
from twinnet.core.secrets import mask
from twinnet.tracking.live import CALL, DONE, END, POINTS, PROBLEM, RECORD, STATE, LiveRun, LiveRuns
from twinnet.tracking.process import dead_processes, this_process
from twinnet.tracking.store import (
    LOCK_SECONDS,
    RESULT,
    Store,
    StoreError,
    client_environment,
    connect,
    database_file,
    store_errors,
)
from twinnet.tracking.sweeps import KEY, LEADER
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo, now

INTERRUPTED = "is_interrupted"  # in state.json during a try: the next one finds it if this one was interrupted
DIED = "the training process died (killed or out of memory)"
POLL_SECONDS = 0.1
LINGER_SECONDS = 15.0  # until the next training or `publish`: MLflow is imported once
RETRY_SECONDS = 30.0  # between two tries while a training goes on
RETRY_AT_END_SECONDS = 2.0
MARK_SECONDS = 10.0  # between two looks for dead runs, 20 ms each
MAX_BYTES = 4e9  # of memory; MLflow takes 0.3 GB


@dataclass
class Attempts:
    """What this follower has tried for one folder."""

    size: int = -1  # of points.jsonl, at the last try
    is_complete: bool = False  # it has been tried after its end
    retry_at: float = 0.0  # monotonic


class Follower:
    """Sends each folder to the store until none is left that can still change."""

    def __init__(self, runs: LiveRuns) -> None:
        self.runs, self.environment = runs, dict(os.environ)
        self.store: Store | None = None
        self.has_tried = False  # to connect
        self.file: tuple[int, int] | None = None  # that it connected to, as `_file` names it
        self.attempts: defaultdict[str, Attempts] = defaultdict(Attempts)
        self.monitors: dict[str, Any] = {}  # folder -> MLflow's monitor of this machine, while its run trains
        self.is_refused = False  # to the user that this process knows; the next one may know another password
        self.current: LiveRun | None = None
        self.deadline = float("inf")  # of the current try
        self.marked_at = 0.0  # monotonic, of the last look for dead runs

    def follow(self) -> None:
        """Send what is new until no run has been active for LINGER_SECONDS, or the store has refused this user.

        Exit if only runs of another user remain, whose password this process lacks.
        """
        threading.Thread(target=self._watch, daemon=True).start()
        with suppress(Exception):  # `_send` finds it again, and leaves the reason
            import twinnet.tracking.log_run  # noqa: F401  # MLflow, 3 s, while the first run is prepared
        active_at = time.monotonic()
        while True:
            users = {live.user for live in self.runs if self._is_active(live)}
            if users and self.runs.user not in users:
                sys.exit()  # the next follower is theirs
            for live in sorted(self.runs, key=lambda live: self.attempts[live.folder.name].retry_at):
                if self._is_due(live):
                    if self.has_tried and self.file != self._file():
                        sys.exit()  # it is connected to a file that was replaced; the next follower is not
                    self._try(live)
                    active_at = time.monotonic()
            if self.is_active():
                active_at = time.monotonic()
            elif self.is_refused or time.monotonic() - active_at > LINGER_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    def is_active(self) -> bool:
        """Return whether a run trains, has not been tried since its end, or may still be sent within its patience."""
        return any(self._is_active(live) for live in self.runs)

    def _is_active(self, live: LiveRun) -> bool:
        is_tried = self.attempts[live.folder.name].is_complete
        return not live.has(DONE) and ((self._is_awaited(live) and not self.is_refused) or not is_tried)

    def _file(self) -> tuple[int, int] | None:
        """Return device and number of the store's SQLite file; None for a server, or if the file is gone."""
        try:
            found = os.stat(database_file(self.runs.uri) or "")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _watch(self) -> None:
        """Give signs of life; end the process if a try lasts longer than its deadline: the store hangs."""
        while True:
            with suppress(OSError):  # a full disk may have space again
                self.runs.heartbeat.write_text(this_process(), "utf-8")
            is_endless = psutil.Process().memory_info().rss > MAX_BYTES
            if self.current and (is_endless or time.monotonic() > self.deadline):
                seconds = self.current.settings.deadline_seconds
                reason = "sends an endless answer" if is_endless else f"did not take the run within {seconds:g} s"
                self._note(self.current, StoreError(f"the tracking store {self.runs.store} {reason}", True))
                os._exit(1)
            time.sleep(0.5)

    @staticmethod
    def _is_awaited(live: LiveRun) -> bool:
        return live.is_owned if live.has_reader else live.age(END) < live.settings.patience_seconds

    def _is_due(self, live: LiveRun) -> bool:
        attempts, is_ended = self.attempts[live.folder.name], live.is_ended
        if live.has(DONE):
            return False
        if (is_ended and not live.has(RECORD) and not live.has(CALL)) or (live.has_reader and not live.is_owned):
            live.remove()  # it died before it trained, or nobody waits for it any more
            return False
        if time.monotonic() < attempts.retry_at and live.has(PROBLEM):  # else `publish` asks for another try
            return is_ended and not attempts.is_complete
        if is_ended or not live.has(RECORD) or live.size(POINTS) == attempts.size:
            return is_ended
        return live.age(RECORD) >= live.settings.live_seconds  # a shorter run is sent once, when it has ended

    def _try(self, live: LiveRun) -> None:
        attempts, is_ended = self.attempts[live.folder.name], live.is_ended
        attempts.size = live.size(POINTS)
        self.current, self.deadline = live, time.monotonic() + live.settings.deadline_seconds
        try:
            os.environ.update(client_environment(live.settings, self.environment))
            with store_errors(self.runs.uri):
                self._send(live, is_ended)
            live.forget(PROBLEM)
        except Exception as error:
            is_unreachable = isinstance(error, StoreError) and error.is_unreachable
            for other in self.runs if is_unreachable else (live,):
                self._note(other, error)
        finally:
            self.deadline = float("inf")
            attempts.is_complete |= is_ended

    def _note(self, live: LiveRun, error: Exception) -> None:
        """Leave the reason in the folder, and wait before the next try."""
        attempts, is_ended = self.attempts[live.folder.name], live.is_ended
        attempts.is_complete |= is_ended
        attempts.retry_at = time.monotonic() + (RETRY_AT_END_SECONDS if self._is_awaited(live) else RETRY_SECONDS)
        attempts.size = -1
        is_unreachable = isinstance(error, StoreError) and error.is_unreachable
        self.is_refused |= isinstance(error, StoreError) and error.is_refused
        reason = mask(one_line_text(error), self.runs.uri)
        live.write(PROBLEM, {"reason": reason, "after_end": is_ended, "is_unreachable": is_unreachable})

    def _send(self, live: LiveRun, is_ended: bool) -> None:
        """Bring the store up to date with one folder, and note there what has arrived."""
        if live.has(CALL):
            live.write(DONE, self._answer(live.read(CALL) or {}))
            return
        record, state = live.read(RECORD), live.read(STATE) or {}
        assert record is not None
        is_retry = state.pop(INTERRUPTED, False)
        live.write(STATE, state | {INTERRUPTED: True})
        end = (live.read(END) or {"status": "KILLED", "reason": DIED, "traceback": ""}) if is_ended else None
        if is_ended and (monitor := self.monitors.pop(live.folder.name, None)):
            monitor.finish()
        result = end.get("result") if end else None
        from twinnet.tracking import description, log_run  # imports MLflow: 3 s

        store = self._open()
        info = RunInfo.parse(record["info"])
        info = replace(info, overrides=description.overrides(info, self.runs.root))
        experiment = log_run.open_experiment(store, info)  # restored, with its runs, if it was deleted in the UI
        if end and result and (is_retry or live.has_reader) and (found := finished_ids(store, result)):
            self._drop_twins(store, found, state.get("run_id"))
            log_run.attach_figures(store, found[0], end["figures"])
            live.finish(found[0], is_new=False)
            return
        if end and result and (other := self._trained_elsewhere(store, record["tags"], state, is_retry)):
            if "run_id" in state:
                store.give_up(state["run_id"], "another machine has trained this job meanwhile")
            live.finish(other, is_new=False)
            return
        run, broken = _finished_run(end)
        if broken and live.has_reader:
            live.write(DONE, {"broken": broken})
            return
        if "run_id" not in state and time.monotonic() - self.marked_at > MARK_SECONDS:
            self._mark_dead_runs(store)
        with nullcontext() if is_retry else store.transaction():
            if "run_id" not in state:
                process = live.owner["process"]
                known = log_run.find_created(store, info, process) if is_retry else None
                state["run_id"] = known or log_run.create(store, info, record["tags"], process, experiment)
                log_run.describe(store, state["run_id"], info)
            run_id = state["run_id"]
            if points := live.points(state.get("points", 0)):
                state |= {"points": state.get("points", 0) + len(points), "last_epoch": int(points[-1]["epoch"])}
            if end and run:
                log_run.attach_figures(store, run_id, end["figures"])
                log_run.finish(store, run_id, run, info, state.get("last_epoch", 0), points)
            else:
                log_run.send_points(store, run_id, points)
            if end and not run:
                status = "FAILED" if broken else end["status"]
                log_run.fail(store, run_id, info, status, broken or end["reason"], end.get("traceback", ""))
        live.write(STATE, state)
        if end:
            live.finish(run_id, is_new=True)
        else:
            self._monitor(live, info, run_id)

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return the value of a function of this package's, called with the store, or the ConfigError it raised."""
        module, _, name = call["function"].partition(":")
        if not module.startswith(f"{__package__}."):
            raise DataError(f"expected a function of {__package__}; received {call['function']}")
        try:
            return {"value": getattr(importlib.import_module(module), name)(self._open(), **call["values"])}
        except ConfigError as error:  # of the caller
            return {"error": str(error)}

    def _monitor(self, live: LiveRun, info: RunInfo, run_id: str) -> None:
        """Measure the machine while a training goes on that has lasted `system_seconds`."""
        name, seconds = live.folder.name, live.settings.system_seconds
        if seconds and name not in self.monitors and live.is_local and now() - info.started >= 1000 * seconds:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor  # MLflow is imported already

            self.monitors[name] = SystemMetricsMonitor(
                run_id, seconds, samples_before_logging=1, resume_logging=True, tracking_uri=self.runs.uri
            )
            self.monitors[name].start()

    def _open(self) -> Store:
        if self.store is None:
            assert self.current is not None
            seconds = self.current.settings.deadline_seconds / 2
            self.has_tried, self.file = True, self._file()
            self.store = connect(self.runs.uri, min(LOCK_SECONDS, seconds))
            self.file = self._file()
            self._mark_dead_runs(self.store)
        return self.store

    def _mark_dead_runs(self, store: Store) -> None:
        """Mark the runs of dead processes that this follower does not send, and forget those processes."""
        self.marked_at = time.monotonic()
        locks, died, spared = self.runs.locks, dead_processes(self.runs.locks), list[str]()
        for live in self.runs:
            with suppress(DataError):  # the try of that folder reports it
                spared.append((live.read(STATE) or {}).get("run_id", ""))
        store.mark_dead_runs(locks, died, spared)
        owners = {LiveRun(folder).owner.get("process") for folder in self.runs.folder.iterdir()}
        for process in {*died} - owners:
            (locks / f"{process}.lock").unlink(missing_ok=True)

    @staticmethod
    def _trained_elsewhere(
        store: Store, tags: Mapping[str, str], state: Mapping[str, Any], is_retry: bool
    ) -> str | None:
        """Return the finished run of the same job that another machine has sent, if any.

        A sweep launches a job again while its machine is cut off, and both may finish it; only a server has both.
        """
        run_id = state.get("run_id")
        if LEADER not in tags:
            return None
        is_local = database_file(store.address) and not is_retry
        if is_local and (run_id is None or store.client.get_run(run_id).info.status == "RUNNING"):
            return None
        same = " AND ".join(f"tags.`{name}` = '{tags[name]}'" for name in (KEY, LEADER))
        found = store.search(f"{same} AND attributes.status = 'FINISHED'")
        return next((run.info.run_id for run in found if run.info.run_id != run_id), None)

    @staticmethod
    def _drop_twins(store: Store, found: list[str], unfinished: str | None) -> None:
        """Delete runs of a result that another process sent at the same time, and one that was begun here."""
        for twin in {*found[1:], unfinished or found[0]} - {found[0]}:
            store.client.delete_run(twin)


def finished_ids(store: Store, result: str) -> list[str]:
    """Return the ids of the finished runs of a result, the earliest first."""
    condition = f"tags.`{RESULT}` = '{result}' AND attributes.status = 'FINISHED'"
    return [str(run.info.run_id) for run in store.search(condition)]


def _finished_run(end: dict[str, Any] | None) -> tuple[Run | None, str]:
    """Return the run if it finished and its files are whole, else why they are not."""
    if not end or end["status"] != "FINISHED":
        return None, ""
    directory = Path(end["directory"])
    try:
        if Run(directory).content_hash != end["result"]:
            return None, f"{directory}: a later run has replaced the files before they were sent"
        return Run.read(directory), ""
    except DataError as error:
        return None, one_line_text(error)


def main(root: Path) -> None:
    collect_rarely()
    runs = LiveRuns(root)
    follower = Follower(runs)
    try:
        while True:
            with runs.lock.acquire(timeout=1, poll_interval=0.02):
                follower.follow()
            if not follower.is_active():  # else a run began after the last look
                return
    except (Timeout, FileNotFoundError):
        return  # another one follows, or the folder is gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
