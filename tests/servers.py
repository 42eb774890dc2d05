"""MLflow servers as the project's commands start them, on loopback ports."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER_SECONDS = 400  # a server takes about ten seconds to start, and more on a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    folder: Path,
    program: Sequence[str],
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    health: str = "health",
) -> Iterator[str]:
    """A module that becomes a server, which answers at `health`; yields its address. Its output is server.log."""
    port = port or free_port()
    surroundings = os.environ | {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(port), "DVC_ROOT": str(folder)}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *program],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=surroundings | (environment or {}),
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        _await_health(f"http://127.0.0.1:{port}/{health}", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _await_health(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
