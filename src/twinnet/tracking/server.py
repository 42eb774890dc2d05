"""MLflow's own programs, started on this project's store: its user interface, and a server on PostgreSQL.

MLflow's variables (MLFLOW_HOST, MLFLOW_PORT, MLFLOW_SERVER_ALLOWED_HOSTS, …) are honoured by both.
"""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from twinnet.core import paths
from twinnet.core.errors import TwinnetError
from twinnet.core.secrets import mask
from twinnet.tracking.store import connect, is_server, store_errors, tracking_uri, with_driver

APPLICATION = "twinnet"  # tracking.ui_defaults, as pyproject.toml names it to MLflow
QUIET = "import click; click.echo = lambda *_, **__: None; from mlflow.cli import cli; cli()"  # without notes on itself
DATABASE = "postgresql:///mlflow"  # on this machine, as the user who is logged in


def ui(root: Path | None = None) -> NoReturn:
    """Become the MLflow user interface of the checkout's store. Raises TwinnetError if the store is a server."""
    uri = tracking_uri(root)
    if is_server(uri):
        raise TwinnetError(f"MLFLOW_TRACKING_URI names a server, which has its own user interface: {mask(uri)}")
    with store_errors(uri):
        connect(uri)  # the first one makes the store
    print(f"http://{os.environ.get('MLFLOW_HOST', '127.0.0.1')}:{os.environ.get('MLFLOW_PORT', '5000')}", flush=True)
    _become(["-c", QUIET, "ui", "--uvicorn-opts", "--log-level warning"], uri, root)


def server(root: Path | None = None) -> NoReturn:
    """Become an MLflow tracking server on the database MLFLOW_BACKEND_STORE_URI, which serves the artifacts too.

    Raises TwinnetError if the database does not answer.
    """
    uri = with_driver(os.environ.get("MLFLOW_BACKEND_STORE_URI", DATABASE))
    try:
        create_engine(uri).connect().close()
    except ImportError as error:
        raise TwinnetError(f"expected the driver of {mask(uri, uri)}; {error}; `make test` installs it") from None
    except SQLAlchemyError as error:
        reason = mask(str(error).splitlines()[0], uri)
        raise TwinnetError(
            f"expected a database at {mask(uri, uri)}; received: {reason}; "
            "docs/servers.md says how to make it; MLFLOW_BACKEND_STORE_URI names another"
        ) from None
    _become(["-m", "mlflow", "server"], uri, root)


def _become(program: list[str], uri: str, root: Path | None) -> NoReturn:
    """Replace this process; the address goes in a variable, where other users of the machine cannot read it."""
    defaults = {
        "MLFLOW_ARTIFACTS_DESTINATION": str((root or paths.main_root()) / "mlartifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
        "PYTHONWARNINGS": "ignore:starlette",  # deprecations inside MLflow
    }
    environment = {**defaults, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    ours = ["--app-name", APPLICATION] if entry_points(group="mlflow.app", name=APPLICATION) else []
    os.execve(sys.executable, [sys.executable, *program, *ours], environment)
