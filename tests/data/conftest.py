import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks/ holds the server whose faults are tested

from benchmarks.fault_server import FaultServer, serving  # noqa: E402  (the path comes first)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No mirror but the test's own, and no proxy between a test and its server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    if "real_data" not in request.keywords:
        monkeypatch.delenv("TWINNET_MIRROR", raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving() as running:
        yield running
