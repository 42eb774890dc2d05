"""The MLflow store: where it is, how it is opened by many processes at once, and which of its runs are dead."""

import importlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import requests
from filelock import FileLock

from twinnet.core import paths
from twinnet.core.errors import TwinnetError
from twinnet.core.schema import Tracking
from twinnet.core.secrets import mask

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROCESS = "twinnet.process"  # the tag that names the process that writes a run
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens its GenAI view


class StoreError(TwinnetError):
    """The tracking store does not answer, or refuses; the message is one line without credentials."""


def address(root: Path | None = None) -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db at the repository's root, also inside a DVC experiment's temporary copy."""
    return with_driver(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root or paths.main_root()}/mlflow.db")


def with_driver(where: str) -> str:
    """A PostgreSQL address with the driver that is installed here; SQLAlchemy 2.1 looks for another by itself."""
    for scheme in ("postgresql://", "postgres://"):
        if where.startswith(scheme):
            return f"postgresql+psycopg2://{where.removeprefix(scheme)}"
    return where


def settle(settings: Tracking) -> dict[str, str]:
    """Variables for a process that talks to MLflow: short waits, no telemetry, nothing printed.

    Those that the user has set stay as they are.
    """
    wanted = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(settings.timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_UV_AUTO_DETECT": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


@dataclass
class Store:
    address: str
    client: "MlflowClient"

    def experiment(self, name: str, description: str) -> str:
        """The id of the experiment, made where there is none; several processes may ask at once."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            tags = MODEL_TRAINING | {"mlflow.note.content": description}
            try:
                return self.client.create_experiment(name, self._artifacts(name), tags)
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another process was quicker
                if found is None:
                    raise
        return found.experiment_id

    def _artifacts(self, experiment: str) -> str | None:
        """A folder beside the database; a server keeps artifacts where it wants."""
        if is_server(self.address):
            return None
        file = database_file(self.address)
        return ((file.parent if file else paths.main_root()) / "mlartifacts" / experiment).as_uri()

    def search(self, condition: str, experiments: list[str] | None = None) -> Iterator["Run"]:
        """Every run that fits, the earliest first; in all experiments where none are named."""
        ids = experiments if experiments is not None else [e.experiment_id for e in self.client.search_experiments()]
        token = None
        while ids:
            page = self.client.search_runs(ids, condition, order_by=["attributes.start_time ASC"], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def bury(self) -> list[str]:
        """Mark runs KILLED whose process on this machine is gone; their ids."""
        host = socket.gethostname()
        buried = []
        for run in self.search(f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` LIKE '{host} %'"):
            process = run.data.tags[PROCESS]
            if not alive(process):
                reason = f"the process that tracked it ended without a word (process {process.split()[1]} on {host})"
                self.client.set_tag(run.info.run_id, "reason", reason)
                self.client.set_terminated(run.info.run_id, "KILLED")
                buried.append(run.info.run_id)
        return buried


def is_server(address: str) -> bool:
    return address.startswith(("http://", "https://", "databricks", "uc:"))


def database_file(address: str) -> Path | None:
    """The file of a SQLite address, else None."""
    if not address.startswith("sqlite:///"):
        return None
    return Path(address.removeprefix("sqlite:///").split("?")[0]).absolute()


def this_process() -> str:
    """Host, process id and start time: names a process for good, where an id alone is given out again."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def alive(process: str) -> bool:
    """Whether the process that `this_process` named still runs on this machine."""
    _, pid, started = process.rsplit(" ", 2)
    try:
        found = psutil.Process(int(pid))
        return abs(found.create_time() - float(started)) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def connect(where: str) -> Store:
    """The store at an address. A new SQLite store is made under a lock: its migration stands only one process."""
    from mlflow import MlflowClient  # here: importing it takes seconds

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    file = database_file(where)
    if file is None:
        return Store(where, MlflowClient(where))
    # Imported before the lock is taken: it takes seconds too, which many processes spend beside each other.
    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            _make(file)
        return Store(where, MlflowClient(where))


def _make(file: Path) -> None:
    """A new SQLite store, whole or not at all: one whose migration was killed can never be opened again."""
    from mlflow import MlflowClient

    partial = file.with_name(f"{file.name}.new")
    for left in (partial, partial.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{partial}")
    os.replace(partial, file)


@contextmanager
def opened(settings: Tracking, root: Path | None = None) -> Iterator[Store]:
    """The store of this checkout, with the variables of `settle` set meanwhile. Raises StoreError."""
    where, before = address(root), dict(os.environ)
    wanted = settle(settings)
    os.environ.update(wanted)
    try:
        with guarded(where):
            yield connect(where)
    finally:
        for name in wanted.keys() - before.keys():
            os.environ.pop(name, None)


@contextmanager
def guarded(where: str) -> Iterator[None]:
    """Turn whatever a store raises into a StoreError of one line without credentials."""
    try:
        yield
    except TwinnetError:
        raise
    except Exception as error:
        # "from None": the chain would print the address that the message hides.
        raise StoreError(f"the tracking store {mask(where, where)} {mask(_reason(error), where)}") from None


def _reason(error: Exception) -> str:
    """What is wrong, in one line; MLflow tells a broken connection in five."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.RequestException):
            return f"does not answer ({type(cause).__name__})"
        cause = cause.__cause__ or cause.__context__
    told = " ".join(str(error).split())
    return f"failed: {type(error).__name__}: {told if len(told) < 300 else told[:300] + ' ...'}"
