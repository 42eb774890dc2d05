from collections.abc import Iterator

import pytest

from tests.data.faults.server import FaultServer, serving


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No mirror but the test's own."""
    if "real_data" not in request.keywords:
        monkeypatch.delenv("TWINNET_MIRROR", raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with serving() as running:
        yield running
