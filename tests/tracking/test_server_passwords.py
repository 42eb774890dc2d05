"""A server that other machines reach asks for passwords, unless its user says plainly that it does not."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from twinnet.core.errors import ConfigError
from twinnet.tracking import server


@pytest.fixture
def needs_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`needs_password(MLFLOW_HOST="0.0.0.0")`: whether the server asks for one; its `database` holds the users."""
    for name in ("MLFLOW_HOST", server.AUTH, server.ADMIN_PASSWORD, server.CONFIG, server.ARTIFACTS):
        monkeypatch.delenv(name, raising=False)

    def needed(**environment: str) -> bool:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return server._environment(needed.database, tmp_path)[server.AUTH] == "basic"

    needed.database = f"sqlite:///{tmp_path}/mlflow.db"
    return needed


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_server_of_one_machine_asks_for_no_password(needs_password, host: str) -> None:
    assert not needs_password(MLFLOW_HOST=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.1", "mlflow.example"])
def test_server_of_many_machines_needs_passwords(needs_password, host: str) -> None:
    with pytest.raises(ConfigError, match=f"MLFLOW_HOST={host}: expected users with passwords.*; received none; set "):
        needs_password(MLFLOW_HOST=host)
    with pytest.raises(ConfigError, match="12 characters or more"):
        needs_password(MLFLOW_AUTH_ADMIN_PASSWORD="eleven-long")
    assert needs_password(MLFLOW_AUTH_ADMIN_PASSWORD="twelve-long-")


def test_later_start_needs_no_password_again(needs_password) -> None:
    with create_engine(needs_password.database).begin() as database:
        database.execute(text("CREATE TABLE users (id INTEGER)"))
    with pytest.raises(ConfigError, match="received none"):
        needs_password(MLFLOW_HOST="0.0.0.0")
    with create_engine(needs_password.database).begin() as database:
        database.execute(text("INSERT INTO users VALUES (1)"))
    assert needs_password()


def test_variable_overrides_the_choice(needs_password) -> None:
    assert not needs_password(MLFLOW_HOST="0.0.0.0", TWINNET_SERVER_AUTH="none")
    assert needs_password(
        MLFLOW_HOST="127.0.0.1", TWINNET_SERVER_AUTH="basic", MLFLOW_AUTH_ADMIN_PASSWORD="twelve-long-"
    )
    with pytest.raises(ConfigError, match="TWINNET_SERVER_AUTH: expected basic or none; received no"):
        needs_password(TWINNET_SERVER_AUTH="no")


@pytest.mark.parametrize(
    ("endpoint", "reason"), [("http://127.0.0.1:9", "Could not connect"), ("nonsense", "Invalid endpoint")]
)
def test_silent_object_store_is_one_line(
    needs_password, monkeypatch: pytest.MonkeyPatch, endpoint: str, reason: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    with pytest.raises(server.TwinnetError, match=f"s3://bucket/a: expected a bucket .*; received: {reason}"):
        needs_password(MLFLOW_ARTIFACTS_DESTINATION="s3://bucket/a", MLFLOW_S3_ENDPOINT_URL=endpoint)
