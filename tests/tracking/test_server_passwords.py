"""A server that other machines reach asks for passwords, unless its user says plainly that it does not."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from twinnet.core.errors import ConfigError
from twinnet.tracking import server


@pytest.fixture
def asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`asks(MLFLOW_HOST="0.0.0.0")`: whether the server asks for passwords; `asks.database` holds its users."""
    for name in ("MLFLOW_HOST", server.AUTH, server.ADMIN_PASSWORD, server.CONFIG, server.ARTIFACTS):
        monkeypatch.delenv(name, raising=False)

    def asked(**environment: str) -> bool:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return server._environment(asked.database, tmp_path)[server.AUTH] == "basic"

    asked.database = f"sqlite:///{tmp_path}/mlflow.db"
    return asked


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_server_of_one_machine_asks_for_no_password(asks, host: str) -> None:
    assert not asks(MLFLOW_HOST=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.1", "mlflow.example"])
def test_server_of_many_machines_needs_passwords(asks, host: str) -> None:
    with pytest.raises(ConfigError, match=f"MLFLOW_HOST={host}: expected users with passwords.*; received none; set "):
        asks(MLFLOW_HOST=host)
    with pytest.raises(ConfigError, match="12 characters or more"):
        asks(MLFLOW_AUTH_ADMIN_PASSWORD="eleven-long")
    assert asks(MLFLOW_AUTH_ADMIN_PASSWORD="twelve-long-")


def test_later_start_needs_no_password_again(asks) -> None:
    with create_engine(asks.database).begin() as database:
        database.execute(text("CREATE TABLE users (id INTEGER)"))
    with pytest.raises(ConfigError, match="received none"):
        asks(MLFLOW_HOST="0.0.0.0")
    with create_engine(asks.database).begin() as database:
        database.execute(text("INSERT INTO users VALUES (1)"))
    assert asks()


def test_user_may_say_who_asks(asks) -> None:
    assert not asks(MLFLOW_HOST="0.0.0.0", TWINNET_SERVER_AUTH="none")
    assert asks(MLFLOW_HOST="127.0.0.1", TWINNET_SERVER_AUTH="basic", MLFLOW_AUTH_ADMIN_PASSWORD="twelve-long-")
    with pytest.raises(ConfigError, match="TWINNET_SERVER_AUTH: expected basic or none; received no"):
        asks(TWINNET_SERVER_AUTH="no")


@pytest.mark.parametrize(
    ("endpoint", "reason"), [("http://127.0.0.1:9", "Could not connect"), ("nonsense", "Invalid endpoint")]
)
def test_silent_object_store_is_one_line(asks, monkeypatch: pytest.MonkeyPatch, endpoint: str, reason: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    with pytest.raises(server.TwinnetError, match=f"s3://bucket/a: expected a bucket .*; received: {reason}"):
        asks(MLFLOW_ARTIFACTS_DESTINATION="s3://bucket/a", MLFLOW_S3_ENDPOINT_URL=endpoint)
