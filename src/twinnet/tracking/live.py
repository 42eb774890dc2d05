"""Runs on their way into MLflow: folders under build/live/, written by trainings and `publish`, read by the follower.

A folder holds owner.json (process, store, settings), record.json (the run and its tags), points.jsonl (its curves)
and, when the run has ended, end.json. The follower adds state.json and problem.json, and removes the folder at last.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

import twinnet
from twinnet.core import paths
from twinnet.core.errors import ConfigError, DataError, PrunedError, one_line_text
from twinnet.core.history import History
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking.curves import thin_history
from twinnet.tracking.process import has_died, hold_lock, is_local, is_running, this_process
from twinnet.tracking.store import (
    PARENT,
    StoreError,
    Value,
    client_environment,
    database_file,
    foreign_artifacts,
    tracking_uri,
    tracking_user,
)
from twinnet.training.run_info import RunInfo, now

if TYPE_CHECKING:
    from twinnet.training.run import Run

log = logging.getLogger(__name__)

LIVE = Path("build/live")
OWNER, RECORD, POINTS, END = "owner.json", "record.json", "points.jsonl", "end.json"  # by the training
STATE, PROBLEM, DONE = "state.json", "problem.json", "done.json"  # by the follower
LOCKS = Path("build/processes")  # the locks of processes that write runs
CALL = "call.json"  # instead of a run: a function of the store, whose value done.json holds
LOCAL_SECONDS = 300.0  # at most, for what no server can delay: importing MLflow, writing to a local store
STUCK_SECONDS = 60.0  # without a sign of life
RESTART_SECONDS = 30.0  # between a training's checks that a follower runs
SEND = "`python -m pipelines.publish` sends it"
NUMBERS = count()


@contextmanager
def _folder_errors() -> Iterator[None]:
    """Turn an OSError under build/ into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{LIVE}: expected a folder to write to; received {one_line_text(error)}") from error


class LiveRun:
    """One folder under build/live/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner: dict[str, Any] = {}

    @classmethod
    @_folder_errors()
    def create(cls, runs: "LiveRuns", settings: Tracking, *, has_reader: bool = False) -> "LiveRun":
        """Make a folder for a run of this process; if it `has_reader`, the follower leaves done.json there.

        Raises StoreError if build/ cannot be written to, as `write` does.
        """
        process = this_process()
        hold_lock(process, runs.locks)
        live = cls(runs.folder / f"{time.time_ns()}-{os.getpid()}-{next(NUMBERS)}")
        live.folder.mkdir()
        owner = {"process": process, "store": runs.store, "user": runs.user, "has_reader": has_reader}
        live.write(OWNER, owner | {"settings": asdict(settings)})
        return live

    @property
    def owner(self) -> dict[str, Any]:
        with suppress(DataError):
            self._owner = self._owner or self.read(OWNER) or {}
        return self._owner

    @property
    def settings(self) -> Tracking:
        return Tracking(**self.owner.get("settings", {}))

    @property
    def user(self) -> str:
        return str(self.owner.get("user", ""))

    def adopt(self, user: str) -> None:
        """Let the follower of this user send the run, whoever trained it."""
        self.write(OWNER, self.owner | {"user": user})

    @property
    def has_reader(self) -> bool:
        return bool(self.owner.get("has_reader"))

    @property
    def is_local(self) -> bool:
        """Whether a process of this machine made the folder."""
        return is_local(str(self.owner.get("process", "")))

    @property
    def is_owned(self) -> bool:
        """Whether the process that made the folder runs, or cannot be seen from this machine."""
        return not has_died(str(self.owner.get("process", "")), self.folder.parents[2] / LOCKS)

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be written, also because the training process died."""
        return self.has(END) or not self.is_owned

    @property
    def is_sendable(self) -> bool:
        """Whether it is a run that has ended, and no process waits for it."""
        return self.is_ended and not self.has_reader and self.has(RECORD)

    def finish(self, run_id: str, *, is_new: bool) -> None:
        """Record that the store has the run: in done.json if a process waits for it, else by removing the folder."""
        if self.has_reader:
            self.write(DONE, {"run_id": run_id, "is_new": is_new})
        else:
            self.remove()

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the values of a file, or None if it does not exist. Raises DataError if it is damaged."""
        try:
            values = json.loads((self.folder / name).read_text(encoding="utf-8"))
            if isinstance(values, dict):
                return values
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            pass
        raise DataError(
            f"{self.folder / name}: expected a file of twinnet's; received a damaged one; delete the folder"
        )

    def problem(self) -> dict[str, Any] | None:
        """Return why the last try failed, if it did; a damaged file says nothing: the next try replaces it."""
        with suppress(DataError):
            return self.read(PROBLEM)
        return None

    @_folder_errors()
    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a file whole, unless the folder is gone."""
        if self.folder.is_dir():
            paths.write_text(self.folder / name, json.dumps(values))

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return 0

    def age(self, name: str) -> float:
        """Return the seconds since a file was written; infinity if there is none."""
        try:
            return time.time() - (self.folder / name).stat().st_mtime
        except OSError:
            return float("inf")

    def forget(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def add_points(self, rows: Sequence[Mapping[str, float]]) -> None:
        timestamp = now()
        with (self.folder / POINTS).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(row) | {"timestamp": timestamp}) + "\n" for row in rows)

    def points(self, start: int) -> list[dict[str, float]]:
        """Return the complete lines of points.jsonl from line `start` on."""
        try:
            lines = (self.folder / POINTS).read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[start:]]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class LiveRuns:
    """The folders under build/live/ of one checkout that are for its current store."""

    @_folder_errors()
    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.uri = root, root / LIVE, tracking_uri(root)
        self.store, self.user = mask(self.uri, self.uri), tracking_user(self.uri)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.locks = root / LOCKS
        name = hashlib.sha256(self.store.encode()).hexdigest()[:12]
        self.lock = FileLock(self.folder / f".{name}.lock")
        self.heartbeat = self.folder / f".{name}.follower"  # its time is the follower's last sign of life
        self.known: dict[str, LiveRun] = {}
        if folder := foreign_artifacts(self.uri):
            _warn_of_artifacts(self.store, folder)
        self.started: subprocess.Popen[bytes] | None = None

    def __iter__(self) -> Iterator[LiveRun]:
        for folder in sorted(self.folder.iterdir()):
            live = self.known.get(folder.name) or LiveRun(folder)
            if not folder.name.startswith(".") and live.owner.get("store") == self.store:
                self.known[folder.name] = live
                yield live

    def others(self) -> dict[str, int]:
        """Return how many ended runs wait for another store."""
        lives = map(LiveRun, self.folder.iterdir())
        stores = [str(live.owner.get("store", self.store)) for live in lives if live.is_sendable]
        return dict(Counter(store for store in stores if store != self.store))

    def start_follower(self, settings: Tracking) -> None:
        """Start the process that sends the folders to the store, unless one runs already."""
        if self.has_follower():
            return
        library = str(Path(twinnet.__file__).parents[1])
        inherited = os.environ.get("PYTHONPATH")
        environment = os.environ | client_environment(settings)
        environment["PYTHONPATH"] = os.pathsep.join([library, *([inherited] if inherited else [])])
        self.started = subprocess.Popen(
            [sys.executable, "-P", "-m", "twinnet.tracking.follow", str(self.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=self.root,
            start_new_session=True,  # Ctrl-C is for the training
        )

    @_folder_errors()
    def has_follower(self) -> bool:
        """Return whether a follower runs; end one without a sign of life for STUCK_SECONDS."""
        try:
            with self.lock.acquire(timeout=0):
                return self.started is not None and self.started.poll() is None  # it does not hold the lock yet
        except Timeout:
            pass
        with suppress(OSError, ValueError, psutil.Error):
            process = self.heartbeat.read_text("utf-8")
            if time.time() - self.heartbeat.stat().st_mtime > STUCK_SECONDS and is_running(process):
                follower = psutil.Process(int(process.split()[1]))
                follower.kill()
                follower.wait(timeout=10)
                return False
        return True


@contextmanager
def keep_follower(settings: Tracking) -> Iterator[None]:
    """Keep one follower meanwhile, if tracking is on: it imports MLflow at once, and once."""
    with ExitStack() as stack:
        if settings.enabled:
            with suppress(OSError, StoreError):  # reported when something is sent
                runs = LiveRuns(paths.main_root())
                stack.callback(LiveRun.create(runs, settings, has_reader=True).remove)  # it waits as for a run
                runs.start_follower(settings)
        yield


@cache
def _warn_of_artifacts(store: str, folder: str) -> None:
    log.warning(
        "%s comes from another checkout: its files go to %s; remove mlflow.db, and "
        "`python -m pipelines.publish` sends the runs of this one",
        store, folder,
    )  # fmt: skip


def tracker(
    settings: Tracking,
    *,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
    root: Path | None = None,
    waits: bool = True,
) -> "LiveTracker | None":
    """Return the tracker of one run, or None if tracking is off; make it before the data is loaded.

    `parent` is the id of the MLflow run that this one belongs to, `tags` are added to the run's own; `root` is the
    checkout whose store is used if MLFLOW_TRACKING_URI names none. A tracker that `waits` returns from the end of a
    training when the store has the run; the jobs of a sweep do not wait, the sweep does at its end.
    """
    if not settings.enabled:
        return None
    try:
        return LiveTracker(settings, dict(tags or {}) | ({PARENT: parent} if parent else {}), root, waits)
    except Exception as error:
        _warn_of_failure(error)
        return None


class LiveTracker:
    """Implements `training.experiment.Tracker` on disk; a failure is one line in the log and costs no training."""

    def __init__(
        self, settings: Tracking, tags: Mapping[str, str], root: Path | None = None, waits: bool = True
    ) -> None:
        self.settings, self.tags, self.waits = settings, dict(tags), waits
        self.history: History | None = None
        self.epochs, self.chunks_written, self.last_written = 0, 0, 0.0
        self.checked = time.monotonic()
        self.is_started, self.has_warned, self.has_failed = False, False, False
        self.runs = LiveRuns(root or paths.main_root())
        self.live = LiveRun.create(self.runs, settings)
        self.runs.start_follower(settings)  # it imports MLflow while the data is loaded

    def started(self, info: RunInfo) -> None:
        with self._harmless():
            self.epochs, self.is_started, self.last_written = info.epochs, True, time.monotonic()
            tags = {key: mask(value, self.runs.uri) for key, value in self.tags.items()}
            self.live.write(RECORD, {"info": asdict(info), "tags": tags})

    def progressed(self, history: History) -> None:
        self.history = history
        is_last = history.epochs >= self.epochs
        if not self.has_failed and (is_last or time.monotonic() - self.last_written >= self.settings.live_seconds):
            with self._harmless():
                self._write_points()
                self._warn()
                if time.monotonic() - self.checked > RESTART_SECONDS:  # it may have been killed
                    self.checked = time.monotonic()
                    self.runs.start_follower(self.settings)

    def finished(self, run: "Run") -> None:
        if self.has_failed:
            return
        with self._harmless():
            self._end(finished_end(run, run.figures), f"the run is complete in {run.directory}; {SEND}")

    def failed(self, error: BaseException) -> None:
        if self.has_failed:
            return
        with self._harmless():
            if not self.is_started:
                self.live.remove()  # nothing was trained
                return
            interrupted, pruned = isinstance(error, KeyboardInterrupt | SystemExit), isinstance(error, PrunedError)
            reason = "interrupted" if interrupted else str(error) if pruned else f"{type(error).__name__}: {error}"
            trace = "" if pruned else "".join(traceback.format_exception(error))
            end = {
                "status": "KILLED" if interrupted or pruned else "FAILED",
                "reason": mask(reason, self.runs.uri),
                "traceback": mask(trace, self.runs.uri),
            }
            self._end(end, "the next training, or `python -m pipelines.publish`, marks it there")

    def _write_points(self) -> None:
        """Append the points of the curves since the last time."""
        self.last_written = time.monotonic()
        if self.history:
            rows = thin_history(self.history, self.chunks_written, self.epochs)
            self.chunks_written = len(self.history.valid_epoch)
            if rows:
                self.live.add_points(rows)

    def _end(self, end: dict[str, Any], remedy: str) -> None:
        """Write the end of the run; wait until the follower has sent it, but no longer than a store may take."""
        self._write_points()
        is_silent = self.live.has(PROBLEM)
        self.live.write(END, end)
        if not self.waits:
            return
        until, is_ready = time.monotonic() + LOCAL_SECONDS, False
        seconds = self.settings.timeout_seconds if is_silent else self.settings.patience_seconds

        def remaining() -> float:
            nonlocal until, is_ready
            if not is_ready and self.live.has(STATE) and database_file(self.runs.uri) is None:
                is_ready, until = True, time.monotonic() + seconds  # only now is it the store that is slow
            return until - time.monotonic()

        if reason := await_follower(self.runs, [self.live], self.settings, remaining):
            log.warning("not tracked to its end: %s; %s", reason, remedy)

    def _warn(self) -> None:
        """Report the first failure of the store while the training goes on."""
        if not self.has_warned and (problem := self.live.problem()):
            self.has_warned = True
            log.warning("%s; the training goes on without it", problem["reason"])

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            _warn_of_failure(error)
            self.has_failed = True


def _warn_of_failure(error: Exception) -> None:
    log.warning("tracking: %s; this run is not tracked", mask(one_line_text(error)))


def finished_end(run: "Run", figures: Sequence[Path] = ()) -> dict[str, Any]:
    """Return end.json of a finished run."""
    return {
        "status": "FINISHED",
        "directory": str(run.directory.resolve()),
        "result": run.content_hash,
        "figures": [str(figure.absolute()) for figure in figures],
    }


def call_follower(function: Callable[..., Value], settings: Tracking, root: Path | None = None, **values: Any) -> Value:
    """Return `function(store, **values)`, called by the follower, so that this process need not import MLflow.

    The function is one of a module of this package; values and result are what JSON holds. Raises StoreError, or the
    ConfigError of the function.
    """
    until = time.monotonic() + settings.deadline_seconds
    runs = LiveRuns(root or paths.main_root())
    live = LiveRun.create(runs, settings, has_reader=True)
    try:
        live.write(CALL, {"function": f"{function.__module__}:{function.__name__}", "values": values})
        live.write(END, {})
        runs.start_follower(settings)
        if reason := await_follower(runs, [live], settings, lambda: until - time.monotonic()):
            raise StoreError(reason)
        done = live.read(DONE) or {}
        if "error" in done:
            raise ConfigError(done["error"])
        value: Value = done["value"]
        return value
    finally:
        live.remove()


def await_ended(runs: LiveRuns, settings: Tracking) -> None:
    """Wait until the follower has sent the runs that have ended, as long as it goes on sending them."""
    waiting = [live for live in runs if live.is_ended and not live.has_reader]
    n_left, until = len(waiting), time.monotonic() + settings.deadline_seconds

    def remaining() -> float:
        nonlocal n_left, until
        if (left := sum(live.folder.exists() for live in waiting)) < n_left:
            n_left, until = left, time.monotonic() + settings.deadline_seconds
        return until - time.monotonic()

    await_follower(runs, waiting, settings, remaining)


def await_follower(
    runs: LiveRuns, waiting: Sequence[LiveRun], settings: Tracking, remaining: Callable[[], float]
) -> str:
    """Wait until the follower has sent the runs; return "" or the reason why it has not."""
    checked_at, starts = time.monotonic(), 0
    while waiting := [live for live in waiting if live.folder.exists() and not live.has(DONE)]:
        problems = [problem for live in waiting if (problem := live.problem()) and problem["after_end"]]
        if problems and (len(problems) == len(waiting) or any(problem["is_unreachable"] for problem in problems)):
            return "; ".join(dict.fromkeys(str(problem["reason"]) for problem in problems))
        if remaining() < 0:
            return f"the tracking store {runs.store} took too long"
        if time.monotonic() - checked_at > 1:
            checked_at = time.monotonic()
            if not runs.has_follower():
                if starts == 2:
                    return "the process that sends runs ended"
                runs.start_follower(settings)
                starts += 1
        time.sleep(0.05 + len(waiting) / 1000)  # each look reads every folder
    return ""
