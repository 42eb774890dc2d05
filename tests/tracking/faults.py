"""Odd stores and servers, and what is made of each: `make faults` prints the table, a test runs it.

A store that does not take a run must be one line that says why and how the run is sent later, in time, with the run
whole on disk; one that is odd but right must get the run, once. Each row is a process of its own, forked from one
that has imported MLflow, and so is its follower.
"""

import ctypes
import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock

from tests.data.faults import server
from tests.data.faults.server import Behaviour, Exchange, gives, refused
from tests.faults import Outcome, report
from tests.processed import write_players
from twinnet.core import config
from twinnet.core.errors import TwinnetError, one_line_text
from twinnet.core.schema import Tracking
from twinnet.tracking import live, sweeps
from twinnet.tracking.live import LiveRuns
from twinnet.tracking.process import this_process
from twinnet.tracking.publish import publish
from twinnet.tracking.search_runs import runs_table
from twinnet.tracking.store import client_environment, connect
from twinnet.training.experiment import train
from twinnet.training.run import Run

ROOT = Path(__file__).parents[2]
SHORT = Tracking(live_seconds=0.0, timeout_seconds=2, patience_seconds=4.0, deadline_seconds=8.0)  # of stores that fail
WHOLE = Tracking(timeout_seconds=30, deadline_seconds=100.0)  # of stores that take the run
LIMIT = 40.0  # seconds of one row, on a machine that is busy
PASSWORD = "hunter22-secret"
LATER = "`python -m pipelines.publish` sends them"
GONE = "http://127.0.0.1:9"  # nobody listens


@dataclass(frozen=True)
class Case:
    """What is odd, and the parts of the one line that must tell it; none: the store must get the run."""

    tried: str
    parts: tuple[str, ...] = ()
    address: str = ""  # MLFLOW_TRACKING_URI; {project} and {server} are filled in
    behaviour: Behaviour | None = None  # of {server}
    prepare: Callable[[Path], object] = lambda project: None
    heal: Callable[[Path], object] | None = None  # after which `publish` must send the run
    act: Callable[[Path], object] | None = None  # None: publish
    environment: dict[str, str] = field(default_factory=dict)
    database: str = "mlflow.db"  # that has the run afterwards


# -------------------------------------------------------------------------------------------------- servers


def slow(exchange: Exchange) -> None:
    """One byte a second."""
    exchange.head("200 OK", {"Content-Type": "application/json", "Content-Length": "100000"})
    while not exchange.stopping.wait(1):
        exchange.connection.sendall(b" ")


def endless(exchange: Exchange) -> None:
    exchange.head("200 OK", {"Content-Type": "application/json"})
    while not exchange.stopping.wait(0.01):
        exchange.connection.sendall(b" " * 100_000)


def says(content: bytes, **headers: str) -> Behaviour:
    return gives(lambda body: content, **headers)


def cut_off(exchange: Exchange) -> None:
    exchange.send(headers={"Content-Length": "1000"}, body=b'{"experiments": [')


SERVERS: dict[str, Behaviour] = {
    "429 with Retry-After: 3600": refused("429 Too Many Requests", Retry_After="3600"),
    "503 with Retry-After: 3600": refused("503 Service Unavailable", Retry_After="3600"),
    "500": refused("500 Internal Server Error"),
    "502 of a proxy": refused("502 Bad Gateway"),
    "401": refused("401 Unauthorized"),
    "403": refused("403 Forbidden"),
    "404 for everything": refused("404 Not Found"),
    "204, no content": refused("204 No Content"),
    "200, nothing": says(b""),
    "one byte a second": slow,
    "headers, a byte at a time": server.trickle_headers,
    "an answer without an end": endless,
    "takes requests and never answers": Exchange.wait,
    "closes without an answer": lambda exchange: None,
    "resets the connection": Exchange.reset,
    "breaks off": cut_off,
    "damaged chunks": server.bad_chunks,
    "redirects in a loop": server.redirected("{path}"),
    "redirects to a local file": server.redirected("file:///etc/passwd"),
    "the page of a proxy": says(b"<!DOCTYPE html><html><body>Log in</body></html>", Content_Type="text/html"),
    "garbage for JSON": says(b'{"experiments": [}', Content_Type="application/json"),
    "JSON in UTF-16": says('{"experiments": []}'.encode("utf-16"), Content_Type="application/json"),
    "a list for an object": says(b"[1, 2]", Content_Type="application/json"),
    "a text for an object": says(b'"well"', Content_Type="application/json"),
    "nested 200,000 deep": says(b"[" * 200_000, Content_Type="application/json"),
    "experiments that are texts": says(b'{"experiments": ["a"]}', Content_Type="application/json"),
    "another protocol (SSH)": lambda exchange: exchange.connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
}
ADDRESSES = {
    "a port where nobody listens": GONE,
    "a host that does not exist": "http://twinnet.invalid:5000",
    "TLS to a plain port": "https{plain}",
    "a password, and nobody listens": f"http://user:{PASSWORD}@127.0.0.1:9",
    "no host": "http://",
    "a port out of range": "http://127.0.0.1:99999",
    "half an IPv6 address": "http://[::1",
    "a scheme that does not exist": "carrier-pigeon://here",
    "a database without a driver here": f"mysql://user:{PASSWORD}@127.0.0.1/mlflow",
    "PostgreSQL, and nobody listens": f"postgresql://user:{PASSWORD}@127.0.0.1:9/mlflow",
    "a path of Windows": r"C:\mlruns",
    "a folder, file:///": "file://{project}/a%20b",
    "a folder, relative": "mlruns",
    "a database in memory": "sqlite:///:memory:",
    "SQLite without a file": "sqlite://",
}


# ---------------------------------------------------------------------------------------------- SQLite files


def _file(project: Path) -> Path:
    return project / "mlflow.db"


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda project: _file(project).write_bytes(content)


def _edit(*statements: str) -> Callable[[Path], object]:
    def edit(project: Path) -> None:
        with closing(sqlite3.connect(_file(project))) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()

    return edit


def _put_byte(at: int, value: int) -> Callable[[Path], object]:
    """Change one byte of the file: 18 says if SQLite may write, 19 if it may read."""

    def put(project: Path) -> None:
        content = bytearray(_file(project).read_bytes())
        content[at] = value
        _file(project).write_bytes(content)

    return put


def _halve(project: Path) -> None:
    _file(project).write_bytes(_file(project).read_bytes()[: _file(project).stat().st_size // 2])


def _put_folder(project: Path) -> None:
    _file(project).unlink()
    _file(project).mkdir()


def _link(target: str) -> Callable[[Path], object]:
    return lambda project: (_file(project).unlink(), _file(project).symlink_to(target))


HELD: list[object] = []  # locks and connections, until the row's process ends


def _lock_database(project: Path) -> None:
    database = sqlite3.connect(_file(project), isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    HELD.append(database)


def _hold_lock(project: Path) -> None:
    HELD.append(lock := FileLock(f"{_file(project)}.lock"))
    lock.acquire()


def _release(project: Path) -> None:
    for held in HELD:
        held.close() if isinstance(held, sqlite3.Connection) else held.release(force=True)  # type: ignore[attr-defined]


def _renew(project: Path) -> None:
    """Put an empty store in the place of what is there."""
    for name in ("mlflow.db", "mlflow.db.lock", "mlartifacts"):
        path = project / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    shutil.copy(project.parent / "mlflow.db", _file(project))


NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER


def _fill_disk(folder: str) -> Callable[[Path], object]:
    """Mount a disk of 16 KiB there, in a namespace of this process."""

    def fill(project: Path) -> None:
        place = project / folder
        place.mkdir(exist_ok=True)
        libc, is_root, ids = ctypes.CDLL(None), os.getuid() == 0, {"uid": os.getuid(), "gid": os.getgid()}
        if libc.unshare(NEW_MOUNTS if is_root else NEW_MOUNTS | NEW_USERS):
            raise NotImplementedError
        if is_root:
            libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC, MS_PRIVATE: no other process sees the disk
        else:
            Path("/proc/self/setgroups").write_text("deny", "utf-8")
            for name, number in ids.items():
                Path(f"/proc/self/{name}_map").write_text(f"0 {number} 1", "utf-8")
        if libc.mount(b"none", bytes(place), b"tmpfs", 0, b"size=16k"):
            raise NotImplementedError

    return fill


# ------------------------------------------------------------------------------------------- runs in the store


def _publish_first(project: Path) -> None:
    publish(project / "runs", root=project)


def _then(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda project: [step(project) for step in steps]


def _client(project: Path):
    return connect(f"sqlite:///{_file(project)}").client


def _delete_experiment(project: Path) -> None:
    client = _client(project)
    client.delete_experiment(client.get_experiment_by_name("nba").experiment_id)


def _delete_run(project: Path) -> None:
    for run in connect(f"sqlite:///{_file(project)}").search(""):
        _client(project).delete_run(run.info.run_id)


def _leave_dead_run(project: Path) -> None:
    """A run of a process of this machine that was killed."""
    tags = {"twinnet.process": this_process().replace(f" {os.getpid()} ", " 99999999 ")}
    client = _client(project)
    client.create_run(client.create_experiment("other"), tags=tags)


def _leave_live(name: str, content: str) -> Callable[[Path], object]:
    def leave(project: Path) -> None:
        folder = project / "build/live/1-1-0"
        folder.mkdir(parents=True)
        (folder / name).write_text(content, "utf-8")

    return leave


def _leave_run(empty: str) -> Callable[[Path], object]:
    """A run of this process on its way to the store, with a file that a power cut has left empty."""

    def leave(project: Path) -> None:
        left = live.LiveRun.create(LiveRuns(project), WHOLE)
        left.write(live.RECORD, {})
        (left.folder / empty).write_bytes(b"")

    return leave


def _publish_twice_at_once(project: Path) -> object:
    if child := os.fork():
        result = publish(project / "runs", WHOLE, root=project)
        os.waitpid(child, 0)
        return result
    with suppress(BaseException):
        publish(project / "runs", WHOLE, root=project)
    os._exit(0)


# ---------------------------------------------------------------------------------------- trainings and sweeps


def _train(project: Path) -> object:
    (project / "runs").rename(project / "before")
    experiment = config.experiment(
        config.compose(ROOT, "train", ["experiment=nba_scratch", "engine=scratch_numpy", "epochs=20"])
    )
    return train(experiment, project / "runs/nba_scratch", root=project, tracker=live.tracker(SHORT, root=project))


SWEEP = sweeps.Sweep("key", "nba", "a sweep", "note", {"seed": "1, 2"})
END = sweeps.SweepResult("FINISHED", "note", {}, {}, [])


def _sync(project: Path) -> object:
    child = sweeps.SweepRun("key", project / "runs/nba_scratch", {sweeps.KEY: "key"})
    return sweeps.sync_children(SHORT, None, [child], root=project)


ACTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "training": (_train, "`python -m pipelines.publish` sends it"),
    "begin of a sweep": (lambda project: sweeps.begin(SHORT, SWEEP, root=project), "goes on without its parent"),
    "results of a sweep": (lambda project: sweeps.finished(SHORT, ["key"], root=project), "the tracking store"),
    "jobs of a sweep": (_sync, "the same command sends what is missing"),
    "end of a sweep": (lambda project: sweeps.end(SHORT, "id", END, root=project), "is in its folder only"),
    "table of runs": (lambda project: runs_table(SHORT, root=project), "the tracking store"),
}


def cases() -> list[Case]:
    unsent = ("the tracking store ", "not published: nba_scratch", LATER)
    found = [Case(f"server: {tried}", unsent, "{server}", behaviour) for tried, behaviour in SERVERS.items()]
    found += [Case(f"address: {tried}", unsent, address) for tried, address in ADDRESSES.items()]
    for tried, (act, part) in ACTS.items():
        for state in ("one byte a second", "takes requests and never answers"):
            found.append(Case(f"{tried}: {state}", ("the tracking store ", part), "{server}", SERVERS[state], act=act))
        found.append(Case(f"{tried}: nobody listens", ("the tracking store ", part), GONE, act=act))
    wrong: dict[str, tuple[str, Callable[[Path], object]]] = {
        "a folder": ("received a folder", _put_folder),
        "a text": ("not a database", _write(b"not a database, but a text\n" * 100)),
        "half a database": ("malformed", _halve),
        "locked by another process": ("is locked", _lock_database),
        "its lock is held": ("mlflow.db.lock", _hold_lock),
        "its lock is a folder": ("mlflow.db.lock", lambda project: (project / "mlflow.db.lock").mkdir()),
        "read-only": ("readonly", _put_byte(18, 9)),
        "of a newer SQLite": ("mlflow.db", _put_byte(19, 9)),
        "of a newer MLflow": ("schema", _edit("UPDATE alembic_version SET version_num = 'ffffffffffff'")),
        "of an older MLflow": ("schema", _edit("UPDATE alembic_version SET version_num = '451aebb31d03'")),
        "artifacts: a file for the folder": ("mlartifacts", lambda project: (project / "mlartifacts").write_bytes(b"")),
        "artifacts: a full disk": ("No space left", _fill_disk("mlartifacts")),
    }  # fmt: skip
    for tried, (part, prepare) in wrong.items():
        heal = None if "full disk" in tried else _then(_release, _renew)
        found.append(Case(f"mlflow.db: {tried}", (*unsent, part), prepare=prepare, heal=heal))
    odd: dict[str, Callable[[Path], object]] = {
        "there is none": lambda project: _file(project).unlink(),
        "empty": _write(b""),
        "behind a link": lambda project: (_file(project).rename(project / "moved.db"), _link_to(project, "moved.db")),
        "a link to itself": _link("mlflow.db"),
        "a link into a folder that is missing": _link("nowhere/mlflow.db"),
        "a table is missing": _edit("DROP TABLE tags"),
        "deleted since the last publish": _then(_publish_first, lambda project: _file(project).unlink()),
        "a killed migration is left": lambda project: (_file(project).rename(project / "mlflow.db.new"),),
        "its experiment is deleted in the UI": _then(_publish_first, _delete_run, _delete_experiment),
        "its run is deleted in the UI": _then(_publish_first, _delete_run),
        "has the run": _publish_first,
        "a run of a killed process": _leave_dead_run,
    }
    found += [Case(f"mlflow.db: {tried}", prepare=prepare) for tried, prepare in odd.items()]
    found += [
        Case("mlflow.db: two publish at once", act=_publish_twice_at_once),
        Case("address: blanks", address="sqlite:///{project}/a b/mlflow.db", database="a b/mlflow.db"),
        Case("address: %20", address="sqlite:///{project}/a%20b/mlflow.db", database="a b/mlflow.db"),
        Case("address: a relative file", address="sqlite:///mine.db", database="mine.db"),
        Case("address: a name with accents", address="sqlite:///{project}/Dončić.db", database="Dončić.db"),
        Case("address: an empty variable", address=""),
        Case("variables of another run", environment={"MLFLOW_RUN_ID": "0" * 32, "MLFLOW_EXPERIMENT_NAME": "other"}),
        Case("build/live: a folder with a damaged file", prepare=_leave_live("owner.json", "{")),
        *(
            Case(f"build/live: a folder with an empty {name}", prepare=_leave_run(name))
            for name in (live.RECORD, live.STATE, live.END, live.PROBLEM)
        ),
        Case("build/live: an empty folder", prepare=_leave_live("other", "")),
    ]
    return found


def _link_to(project: Path, target: str) -> None:
    _file(project).symlink_to(target)


# ------------------------------------------------------------------------------------------------- one row


class ForkedFollower:
    """The follower as a fork of this process, in which MLflow is imported already."""

    def __init__(self, root: Path, settings: Tracking) -> None:
        self.pid, self.status = os.fork(), None
        if self.pid:
            HELD_PIDS.append(self.pid)
            return
        try:
            os.setsid()
            logging.disable(logging.CRITICAL)
            os.environ.update(client_environment(settings))
            from twinnet.tracking import follow

            follow.main(root)
        finally:
            os._exit(0)

    def poll(self) -> int | None:
        if self.status is None and os.waitpid(self.pid, os.WNOHANG) != (0, 0):
            self.status = 0
        return self.status


HELD_PIDS: list[int] = []


def _start_follower(self: LiveRuns, settings: Tracking) -> None:
    if not self.has_follower():
        self.started = ForkedFollower(self.root, settings)  # type: ignore[assignment]


class Lines(logging.Handler):
    """Keeps the warnings of twinnet."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def try_case(case: Case, folder: Path) -> Outcome:
    """Try one row in `folder`, beside a finished run and an empty store."""
    live.LiveRuns.start_follower = _start_follower  # type: ignore[method-assign]
    signal.alarm(int(3 * LIMIT))
    project = folder / str(abs(hash(case.tried)))
    shutil.copytree(folder / "project", project)
    shutil.copy(folder / "mlflow.db", project)
    handler = Lines()
    logger = logging.getLogger("twinnet")
    logger.handlers, logger.propagate = [handler], False
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "TWINNET_"))]:
        del os.environ[name]
    os.environ |= case.environment | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    os.chdir(project)
    try:
        try:
            case.prepare(project)
        except NotImplementedError:
            return Outcome(case.tried, "not tried: this machine mounts nothing")
        handler.lines.clear()
        with server.serving() as faults:
            faults.otherwise = case.behaviour
            address = case.address.replace("{project}", str(project)).replace("{server}", faults.address)
            address = address.replace("{plain}", faults.address.removeprefix("http"))
            if case.address:
                os.environ["MLFLOW_TRACKING_URI"] = address
            outcome = _outcome(case, project, handler)
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            return outcome
    finally:
        for pid in HELD_PIDS:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _outcome(case: Case, project: Path, handler: Lines) -> Outcome:
    started, mistakes = time.monotonic(), []
    try:
        if case.act:
            case.act(project)
        else:
            publish(project / "runs", SHORT if case.parts else WHOLE, root=project)
    except TwinnetError as error:
        handler.lines.append(str(error))
    except Exception as error:
        handler.lines.append(one_line_text(error))
        mistakes.append("a traceback")
    if (seconds := time.monotonic() - started) > LIMIT:
        mistakes.append(f"{seconds:.0f} s")
    lines = [line for line in handler.lines if "synthetic data: drawn" not in line]
    answer = " | ".join(lines)
    if PASSWORD in answer or any(
        PASSWORD.encode() in path.read_bytes() for path in project.rglob("*") if path.is_file()
    ):
        mistakes.append("shows the password")
    if case.parts:
        matching = [line for line in lines if all(part in line for part in case.parts)]
        mistakes += [] if matching else [f"does not say {[part for part in case.parts if part not in answer]}"]
        mistakes += [] if len(lines) <= 2 and "\n" not in answer else [f"{len(lines)} lines"]
    if "nba_scratch" not in {path.name for path in (project / "runs").iterdir()} or not _is_whole(project):
        mistakes.append("the run is lost")
    if not case.parts:
        mistakes += _missing_run(project / case.database)
    elif case.heal:
        case.heal(project)
        handler.lines.clear()
        publish(project / "runs", WHOLE, root=project)
        mistakes += [f"later: {mistake} {handler.lines}" for mistake in _missing_run(project / "mlflow.db")]
    return Outcome(case.tried, answer or "sent", tuple(mistakes))


def _is_whole(project: Path) -> bool:
    try:
        Run.read(project / "runs/nba_scratch")
    except TwinnetError:
        return False
    return True


def _missing_run(file: Path) -> list[str]:
    """Return what the store lacks: exactly one finished run with its files, and none that is left running."""
    store = connect(f"sqlite:///{file}")
    runs = list(store.search("tags.experiment = 'nba_scratch'"))
    statuses = [run.info.status for run in store.search("")]
    if [run.info.status for run in runs] != ["FINISHED"]:
        return [f"the store has {statuses}"]
    files = {found.path for found in store.client.list_artifacts(runs[0].info.run_id)}
    return [] if "predictions.npz" in files and "RUNNING" not in statuses else [f"the store has {files} and {statuses}"]


# ----------------------------------------------------------------------------------------------------- table


def prepare(folder: Path) -> None:
    """Leave a finished run and an empty store in `folder`, and import MLflow."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    project = folder / "project"
    project.mkdir()
    write_players(project)
    experiment = config.experiment(
        config.compose(ROOT, "train", ["experiment=nba_scratch", "engine=scratch_numpy", "epochs=20"])
    )
    train(experiment, project / "runs/nba_scratch", root=project)
    shutil.rmtree(project / "build")
    connect(f"sqlite:///{folder / 'mlflow.db'}")
    from twinnet.tracking import follow, log_run  # noqa: F401  # imported before the rows are forked


def run_all(some: list[Case], folder: Path, processes: int = 16) -> list[Outcome]:
    """The outcomes of cases, several at once since most of the time is spent waiting."""
    prepare(folder)
    global CASES
    CASES = some
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        return pool.map(partial(_try_number, folder=folder), range(len(some)), chunksize=1)


CASES: list[Case] = []  # of this call; a fork cannot be sent functions


def _try_number(number: int, folder: Path) -> Outcome:
    try:
        return try_case(CASES[number], folder)
    except Exception as error:  # of this table
        return Outcome(CASES[number].tried, one_line_text(error), ("not tried to its end",))


if __name__ == "__main__":
    logging.disable(logging.INFO)
    wanted = [case for case in cases() if not sys.argv[1:] or any(word in case.tried for word in sys.argv[1:])]
    sys.exit(report({"stores and servers": lambda folder: run_all(wanted, folder)}))
