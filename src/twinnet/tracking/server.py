"""MLflow's own programs, started on this project's store: its user interface, and a server on PostgreSQL.

MLflow's variables (MLFLOW_HOST, MLFLOW_PORT, MLFLOW_SERVER_ALLOWED_HOSTS, …) are honoured by both. If other machines
reach the address, both ask for a password; TWINNET_SERVER_AUTH=basic asks everybody, TWINNET_SERVER_AUTH=none nobody.
"""

import ipaddress
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from twinnet.core import paths
from twinnet.core.errors import ConfigError, TwinnetError
from twinnet.core.secrets import mask
from twinnet.tracking.store import connect, is_server, store_errors, tracking_uri, with_driver

APPLICATION = "twinnet"  # tracking.ui_defaults, as pyproject.toml names it to MLflow
QUIET = "import click; click.echo = lambda *_, **__: None; from mlflow.cli import cli; cli()"  # without notes on itself
AUTH = "TWINNET_SERVER_AUTH"  # basic or none; tracking.ui_defaults reads it
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # of the first start; the database then has its hash
ARTIFACTS, S3 = "MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_S3_ENDPOINT_URL"
CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
MIN_PASSWORD = 12  # characters, by MLflow
DATABASE = "postgresql:///mlflow"  # on this machine, as the user who is logged in


def ui() -> NoReturn:
    """Become the MLflow user interface of the checkout's store. Raises TwinnetError if the store is a server."""
    root = paths.main_root()
    uri = tracking_uri(root)
    if is_server(uri):
        raise TwinnetError(f"MLFLOW_TRACKING_URI names a server, which has its own user interface: {mask(uri)}")
    with store_errors(uri):
        connect(uri)  # the first one makes the store
    environment = _environment(uri, root)
    print(f"http://{os.environ.get('MLFLOW_HOST', '127.0.0.1')}:{os.environ.get('MLFLOW_PORT', '5000')}", flush=True)
    _become(["-c", QUIET, "ui", "--uvicorn-opts", "--log-level warning"], environment)


def server() -> NoReturn:
    """Become an MLflow tracking server on the database MLFLOW_BACKEND_STORE_URI, which serves the artifacts too.

    Raises TwinnetError if the database does not answer.
    """
    root = paths.main_root()
    uri = with_driver(os.environ.get("MLFLOW_BACKEND_STORE_URI", DATABASE))
    try:
        create_engine(uri).connect().close()
    except ImportError as error:
        raise TwinnetError(f"expected the driver of {mask(uri, uri)}; {error}; `make .venv/dev` installs it") from None
    except SQLAlchemyError as error:
        reason = mask(str(error).splitlines()[0], uri)
        raise TwinnetError(
            f"expected a database at {mask(uri, uri)}; received: {reason}; "
            "docs/servers.md says how to make it; MLFLOW_BACKEND_STORE_URI names another"
        ) from None
    _become(["-m", "mlflow", "server"], _environment(uri, root))


def _become(program: list[str], environment: dict[str, str]) -> NoReturn:
    os.execve(sys.executable, [sys.executable, *program, "--app-name", APPLICATION], environment)


def _environment(uri: str, root: Path) -> dict[str, str]:
    """Return MLflow's variables; the address is one, as other users of the machine can read a command line."""
    defaults = {
        CONFIG: str(Path(__file__).with_name("basic_auth.ini")),
        ARTIFACTS: str(root / "mlartifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),  # of the forms in the browser, until the next start
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
        "PYTHONWARNINGS": "ignore:starlette",  # deprecations inside MLflow
    }
    environment = {**defaults, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri, AUTH: _authentication(uri)}
    if environment[ARTIFACTS].startswith("s3://"):
        _check_bucket(environment[ARTIFACTS], environment.get(S3))
    return environment


def _check_bucket(destination: str, endpoint: str | None) -> None:
    """Raise TwinnetError if the object store does not let the server read its bucket."""
    try:
        import boto3  # an extra; 0.5 s
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise TwinnetError(f"{ARTIFACTS}={destination}: {error}; `make .venv/dev` installs it") from None
    try:
        hasty = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})  # seconds
        client = boto3.client("s3", endpoint_url=endpoint, config=hasty)
        client.list_objects_v2(Bucket=urlsplit(destination).netloc, MaxKeys=1)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise TwinnetError(
            f"{ARTIFACTS}={destination}: expected a bucket that this machine may read; received: {mask(str(error))}; "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the credentials, {S3} is the address if it is not AWS"
        ) from None


def _authentication(uri: str) -> str:
    """Return `basic` or `none`. Raises ConfigError if the passwords that are needed cannot be checked."""
    host = os.environ.get("MLFLOW_HOST") or "localhost"
    is_local = host == "localhost"
    with suppress(ValueError):  # the name of another address
        is_local |= ipaddress.ip_address(host).is_loopback
    match os.environ.get(AUTH, "none" if is_local else "basic"):
        case "none":
            return "none"
        case "basic":
            pass
        case other:
            raise ConfigError(f"{AUTH}: expected basic or none; received {other}")
    has_users = CONFIG in os.environ  # MLflow looks there
    with create_engine(uri).connect() as database:
        if inspect(database).has_table("users"):
            has_users |= database.execute(text("SELECT 1 FROM users")).first() is not None
    if not has_users and len(os.environ.get(ADMIN_PASSWORD, "")) < MIN_PASSWORD:
        raise ConfigError(
            f"MLFLOW_HOST={host}: expected users with passwords, as other machines reach it; received none; "
            f"set {ADMIN_PASSWORD} for this first start (user `admin`, {MIN_PASSWORD} "
            f"characters or more), or {AUTH}=none, and whoever reaches the server writes and deletes"
        )
    return "basic"
