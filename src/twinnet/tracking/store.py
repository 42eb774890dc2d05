"""The MLflow store: its address, its client for many processes at once, its dead runs."""

import hashlib
import importlib
import logging
import os
import re
import socket
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from twinnet.core import paths
from twinnet.core.errors import TwinnetError
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask
from twinnet.tracking.process import has_died, is_local

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

Value = TypeVar("Value")

PROCESS = "twinnet.process"  # the tag that names the process that trains or publishes a run
PARENT = "mlflow.parentRunId"
CONFIGURATION = "twinnet.configuration"  # the tag of a run's configuration without the seed
RESULT = "twinnet.result"  # the tag of a finished run that says what was computed: Run.content_hash
FIGURES = "figures"  # the folder of a run's figures among its artifacts
FINISHED_OR_RUNNING = f"""
    SELECT status, value, artifact_uri FROM runs JOIN experiments USING (experiment_id)
    LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND key = '{RESULT}'
    WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
    AND status IN ('FINISHED', 'RUNNING')"""
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # ignored by MLflow 3.17.2; see ui_defaults

# PostgreSQL would keep the locks of a machine that was lost in a transaction for two hours. A user's own value stays.
PGOPTIONS = "-c idle_in_transaction_session_timeout=60s"
LOCK_SECONDS = 120.0  # for another process that makes the store
PAGE = 200  # runs in one answer: 1,000, which MLflow takes by itself, outlast the timeout on a busy server
EARLIEST = "attributes.start_time ASC"
MAX_METRICS = 1000  # of one log_batch
SILENT = "does not answer"
USER = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
REFUSED = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}  # MLflow's codes
UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


class StoreError(TwinnetError):
    """The tracking store does not answer, or refuses; the message is one line without credentials."""

    def __init__(self, message: str, is_unreachable: bool = False, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_unreachable = is_unreachable  # no other request would be answered either
        self.is_refused = is_refused  # to this user


def tracking_uri(root: Path | None = None) -> str:
    """Return MLFLOW_TRACKING_URI, or mlflow.db at the repository's root.

    A relative SQLite file lies there too, whatever the working directory; in a DVC experiment's temporary copy the
    root is that of the repository.
    """
    uri = with_driver(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    file = uri.removeprefix("sqlite:///")
    if file == uri or Path(file).is_absolute() or file.startswith(":memory:"):
        return uri
    return sqlite_uri(root or paths.main_root()) + f"/{file}"


def tracking_user(uri: str) -> str:
    """Return a digest of the name or token by which the store knows this process; not of its password."""
    known = [os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "TOKEN")]
    with suppress(ValueError):
        known.append(urlsplit(uri).username or "")
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]


def with_driver(where: str) -> str:
    """Return a PostgreSQL address with the driver that is installed here; SQLAlchemy 2.1 looks for another one."""
    for scheme in ("postgresql://", "postgres://"):
        if where.startswith(scheme):
            return f"postgresql+psycopg2://{where.removeprefix(scheme)}"
    return where


def client_environment(settings: Tracking, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables for a process that talks to MLflow: short waits, no telemetry, nothing printed.

    Those that the user has set in `environment` (os.environ) stay as they are.
    """
    home = os.path.expanduser("~")
    wanted = {
        "HOME": home if os.path.isabs(home) else tempfile.gettempdir(),  # a user without an entry in passwd has none
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(settings.timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a server may ask for an hour
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "PGOPTIONS": PGOPTIONS,
    }
    environment = os.environ if environment is None else environment
    return {name: environment.get(name, value) for name, value in wanted.items()}


@dataclass
class Store:
    address: str
    client: "MlflowClient"

    def experiment(self, name: str, description: str) -> str:
        """Return the id of the experiment; make it if there is none, while other processes may do the same."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            tags = MODEL_TRAINING | {"mlflow.note.content": description}
            try:
                return self.client.create_experiment(name, self._location(name), tags)
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another process was quicker
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":  # in the UI; a run cannot be made there
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _location(self, experiment: str) -> str | None:
        """Return the folder of an experiment's files; None for a server, which has a place of its own."""
        if is_server(self.address):
            return None
        return _artifacts(database_file(self.address) or paths.main_root() / "mlflow.db", experiment)

    def search(self, condition: str, experiments: list[str] | None = None) -> Iterator["Run"]:
        """Return every run that fits, the earliest first, in the `experiments` or in all."""
        ids = experiments if experiments is not None else [e.experiment_id for e in self.client.search_experiments()]
        token = None
        while ids:
            page = self.client.search_runs(ids, condition, max_results=PAGE, order_by=[EARLIEST], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let a SQL store commit what this thread sends meanwhile at once, whole or not at all.

        Else MLflow commits 30 times a run, and waits for the disk each time. A server goes on as it does.
        """
        store: Any = self.client._tracking_client.store
        if not hasattr(store, "engine"):
            yield
            return
        from mlflow.store.db.utils import _get_managed_session_maker  # MLflow is imported already
        from sqlalchemy.orm import sessionmaker

        others, thread = store.ManagedSessionMaker, threading.get_ident()
        with store.engine.begin() as connection:
            sessions = sessionmaker(connection, join_transaction_mode="rollback_only")
            ours = _get_managed_session_maker(sessions, store.db_type)
            store.ManagedSessionMaker = lambda *args, **options: (ours if threading.get_ident() == thread else others)(
                *args, **options
            )
            try:
                yield
            finally:
                store.ManagedSessionMaker = others

    def add_metrics(self, run_id: str, metrics: Sequence["Metric"]) -> None:
        """Send points of curves, in the order of their steps; the same point with the same timestamp is kept once."""
        from mlflow.store.tracking.dbmodels.models import SqlMetric  # MLflow is imported already
        from sqlalchemy.dialects import postgresql, sqlite

        store: Any = self.client._tracking_client.store
        dialect = {"sqlite": sqlite, "postgresql": postgresql}.get(getattr(store, "db_type", ""))
        if dialect:  # MLflow makes an object of each point, 80 us, and needs it for the latest of each curve only
            latest = {metric.key: metric for metric in metrics}
            points = [
                {"run_uuid": run_id, "key": metric.key, "timestamp": metric.timestamp, "step": metric.step}
                | dict(zip(("is_nan", "value"), store.sanitize_metric_value(metric.value), strict=True))
                for metric in metrics
                if metric is not latest[metric.key]
            ]
            metrics = list(latest.values())
            if points:
                with store.ManagedSessionMaker(read_only=False) as session:
                    session.execute(dialect.insert(SqlMetric).on_conflict_do_nothing(), points)
        for begin in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(run_id, metrics=metrics[begin : begin + MAX_METRICS])

    def add_dataset(self, run_id: str, dataset: "DatasetInput") -> None:
        """Make the data set an input of the run; a SQL store refuses it while another process stores the same one."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_inputs(run_id, [dataset])
        except MlflowException:  # now it is there
            self.client.log_inputs(run_id, [dataset])

    def mark_dead_runs(self, locks: Path, died: Sequence[str], spared: Container[str] = ()) -> list[str]:
        """Mark runs of dead processes KILLED, except those `spared`; return their ids.

        Those are processes of this machine, and those of others that `died` and left their lock in `locks`.
        """
        elsewhere = [f"= '{process}'" for process in died if not is_local(process)]
        dead = []
        for condition in [f"LIKE '{socket.gethostname()} %'", *elsewhere]:
            for run in list(self.search(f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` {condition}")):
                process = run.data.tags[PROCESS]
                if run.info.run_id not in spared and has_died(process, locks):
                    host, pid, _ = process.rsplit(" ", 2)
                    self.give_up(run.info.run_id, f"its process is no longer running (process {pid} on {host})")
                    dead.append(run.info.run_id)
        return dead

    def give_up(self, run_id: str, reason: str) -> None:
        """Mark an abandoned run KILLED, with the reason."""
        self.client.set_tag(run_id, "reason", reason)
        self.client.set_terminated(run_id, "KILLED")


def is_server(address: str) -> bool:
    return address.startswith(("http://", "https://", "databricks", "uc:"))


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite file, in which SQLAlchemy decodes %20 and ends the path at a question mark."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def database_file(address: str) -> Path | None:
    """Return the file of a SQLite address, else None."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(unquote(address.removeprefix("sqlite:///").split("?")[0])).absolute()


def _artifacts(file: Path, experiment: str) -> str:
    """Return the address of the folder of an experiment's files, beside the database."""
    return (file.parent / "mlartifacts" / experiment).as_uri()


def foreign_artifacts(uri: str) -> str:
    """Return the folder of another checkout that a copied SQLite store writes to, or ""."""
    file = database_file(uri) or Path()
    for name, location in _query(file, "SELECT name, artifact_location FROM experiments WHERE experiment_id != 0"):
        end = _artifacts(Path("/mlflow.db"), name).removeprefix("file://")  # else a user's own experiment
        if location.endswith(end) and location != _artifacts(file, name):
            return str(location)
    return ""


def stored_results(uri: str) -> dict[str, bool]:
    """Return the results that a SQLite store has once, as a finished run, and whether that run has figures.

    It is read without MLflow, whose import takes 3 s. Empty if a run is RUNNING: its process may be dead.
    """
    rows = _query(database_file(uri), FINISHED_OR_RUNNING)
    if any(status == "RUNNING" for status, _, _ in rows):
        return {}
    n_runs = Counter(result for _, result, _ in rows)
    folders = {result: Path(url2pathname(urlsplit(uri).path)) for _, result, uri in rows if n_runs[result] == 1}
    return {result: any((folder / FIGURES).glob("*.png")) for result, folder in folders.items()}


def _query(file: Path | None, query: str) -> list[tuple[Any, ...]]:
    """Return rows of a SQLite file; none without it, or if it is damaged: MLflow says so when it opens the store."""
    if file is None or not file.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            return database.execute(query).fetchall()
    except sqlite3.Error:
        return []


def connect(uri: str, lock_seconds: float = LOCK_SECONDS) -> Store:
    """Return the store at an address. A new SQLite store is made under a lock: only one process may migrate it."""
    from mlflow import MlflowClient  # 3 s

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    file = database_file(uri)
    if uri.startswith("sqlite://") and (file is None or file.name == ":memory:"):
        raise StoreError(f"the tracking store {uri}: expected a file, as sqlite:///mlflow.db; received none", True)
    if file is None:
        if uri.startswith(("postgresql", "mysql", "mssql")):
            from sqlalchemy import create_engine  # imported by MLflow

            create_engine(uri).connect().close()  # MLflow tries again for minutes
        return Store(uri, MlflowClient(uri))
    if file.is_dir():
        raise StoreError(f"the tracking store {uri}: expected a SQLite file; received a folder; move it away", True)
    # Imported before the lock is taken: seconds that many processes spend beside each other.
    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=lock_seconds):
            if not file.exists():
                _make(file)
            return Store(uri, MlflowClient(uri))
    except Timeout:
        raise StoreError(f"the tracking store {uri} is locked: another process holds {file}.lock", True) from None


def _make(file: Path) -> None:
    """Make a new SQLite store, whole or not at all: after a killed migration it can never be opened again."""
    from mlflow import MlflowClient  # imported already

    partial = file.with_name(f"{file.name}.new")
    for left in (partial, partial.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    MlflowClient(sqlite_uri(partial))
    os.replace(partial, file)


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn whatever a store raises into a StoreError of one line without credentials."""
    try:
        yield
    except TwinnetError:
        raise
    except Exception as error:
        reason, code = _explain(error), getattr(error, "error_code", "")
        raise StoreError(
            f"the tracking store {mask(uri, uri)} {mask(reason, uri)}",
            is_unreachable=reason.startswith((SILENT, "answers")) or code in (*UNAVAILABLE, "UNAUTHENTICATED"),
            is_refused=code in REFUSED,
        ) from None  # the chain would print the address that the message hides


def _explain(error: Exception) -> str:
    """Return what is wrong, in one line."""
    import requests  # 0.2 s

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.RequestException):
            if status := re.search(r"too many (\d+) error responses", str(cause)):
                return f"answers with error {status[1]}: see its log"
            return f"{SILENT} ({type(cause).__name__})"
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    text = text if len(text) < 300 else f"{text[:300]} ..."
    if number := REFUSED.get(getattr(error, "error_code", "")):
        answer = text.rpartition("Response body: ")[2].strip("'").partition(". ")[0]
        return f"refuses the user ({' '.join([str(number), answer]).strip()}); {USER} say who it is"
    return f"failed: {type(error).__name__}: {text}"
