"""One file from one address: requests, retries, the cache, and the time it may take."""

import logging
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.data.faults import server as fault_server
from tests.data.faults.server import FaultServer
from tests.data.faults.worlds import IMPATIENT
from twinnet.data.download.fetch import Client, SourceError
from twinnet.data.download.sources import RemoteFile

BODY = bytes(range(256)) * 40
MOST = 1_000_000


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(IMPATIENT, tmp_path / "cache" / "x")


def remote(server: FaultServer, pin: str = "pin", **facts: object) -> RemoteFile:
    server.files["/x.gz"] = BODY
    return RemoteFile("x.gz", f"{server.address}/x.gz", "recorded", pin=pin, **facts)  # type: ignore[arg-type]


def asked(server: FaultServer, header: str) -> list[str | None]:
    return [headers.get(header) for _, _, headers in server.requests]


@pytest.mark.parametrize("pin", ["pin", ""])
def test_broken_download_is_fetched_again(server: FaultServer, client: Client, tmp_path: Path, pin: str) -> None:
    server.behaviours["/x.gz"] = fault_server.at_first(1, fault_server.cut)
    client.fetch(remote(server, pin), tmp_path / "x", MOST)
    assert (tmp_path / "x").read_bytes() == BODY
    assert len(server.requests) == 2


def test_download_that_fails_leaves_no_file(server: FaultServer, client: Client, tmp_path: Path) -> None:
    server.behaviours["/x.gz"] = fault_server.cut
    with pytest.raises(SourceError, match="broke off after"):
        client.fetch(remote(server), tmp_path / "x", MOST)
    assert not (tmp_path / "x").exists()
    assert not list(client.cache.glob("*"))


def test_accepted_pinned_file_is_not_requested_again(server: FaultServer, client: Client, tmp_path: Path) -> None:
    file = remote(server)
    client.fetch(file, tmp_path / "x.gz", MOST)
    client.accept(file, tmp_path / "x.gz")
    Client(IMPATIENT, client.cache).fetch(file, tmp_path / "again", MOST)
    assert (tmp_path / "again").read_bytes() == BODY
    assert len(server.requests) == 1
    server.files["/x.gz"] = BODY[::-1]
    changed = replace(file, pin="another hash in conf")
    client.fetch(changed, tmp_path / "changed", MOST)
    assert (tmp_path / "changed").read_bytes() == BODY[::-1]


def test_file_without_pin_is_requested_each_time(server: FaultServer, client: Client, tmp_path: Path) -> None:
    file = remote(server, pin="")
    for body in (BODY, BODY[::-1]):
        server.files["/x.gz"] = body
        client.fetch(file, tmp_path / "x.gz", MOST)
        client.accept(file, tmp_path / "x.gz")
        assert (tmp_path / "x.gz").read_bytes() == body
    assert len(list(client.cache.iterdir())) == 1


def test_damaged_copy_in_the_cache_is_not_used(server: FaultServer, client: Client, tmp_path: Path) -> None:
    file = remote(server)
    client.fetch(file, tmp_path / "x.gz", MOST)
    client.accept(file, tmp_path / "x.gz")
    (copy,) = client.cache.iterdir()
    copy.write_bytes(b"damaged")
    client.fetch(file, tmp_path / "again", MOST)
    assert (tmp_path / "again").read_bytes() == BODY
    assert len(server.requests) == 2


def test_accepted_copy_serves_if_no_host_answers(
    server: FaultServer, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = remote(server, pin="")
    client.fetch(file, tmp_path / "x.gz", MOST)
    client.accept(file, tmp_path / "x.gz")
    server.behaviours["/x.gz"] = fault_server.Exchange.reset
    client.fetch(file, tmp_path / "again", MOST)
    assert (tmp_path / "again").read_bytes() == BODY
    assert "an earlier download serves" in caplog.text
    server.behaviours["/x.gz"] = fault_server.refused("404 Not Found")
    with pytest.raises(SourceError, match="404"):
        client.fetch(file, tmp_path / "gone", MOST)


def test_requests_to_one_host_keep_their_distance(server: FaultServer, client: Client, tmp_path: Path) -> None:
    file = remote(server, pin="", interval=0.3)
    server.behaviours["/x.gz"] = fault_server.at_first(1, fault_server.refused("503 Busy"))
    client.fetch(file, tmp_path / "x", MOST)
    other = Client(IMPATIENT, client.cache.parent / "another_data_set")
    other.fetch(file, tmp_path / "y", MOST)
    times = [at for at, _, _ in server.requests]
    assert len(times) == 3
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.28


def test_retry_after_is_honoured_up_to_the_patience(server: FaultServer, client: Client, tmp_path: Path) -> None:
    client.settings = replace(IMPATIENT, patience=2.0)
    wait = fault_server.refused("429 Slow down", Retry_After="1")
    server.behaviours["/x.gz"] = fault_server.at_first(1, wait)
    client.fetch(remote(server), tmp_path / "x", MOST)
    first, second = (at for at, _, _ in server.requests)
    assert second - first > 0.9
    server.behaviours["/x.gz"] = fault_server.refused("429 Slow down", Retry_After="3600")
    started = time.monotonic()
    with pytest.raises(SourceError, match="429 Slow down, Retry-After: 3600"):
        client.fetch(remote(server), tmp_path / "y", MOST)
    assert time.monotonic() - started < 3
    assert len(server.requests) == 3


def test_headers_and_user_agent_are_those_of_the_configuration(
    server: FaultServer, client: Client, tmp_path: Path
) -> None:
    client.settings = replace(IMPATIENT, user_agent="somebody/1")
    client.fetch(remote(server), tmp_path / "x", MOST)
    client.fetch(remote(server, headers={"User-Agent": "Mozilla/5.0", "Referer": "r"}), tmp_path / "x", MOST)
    assert asked(server, "user-agent") == ["somebody/1", "Mozilla/5.0"]
    assert asked(server, "referer") == [None, "r"]


def test_refusal_of_the_environment_s_proxy_is_not_the_host_s(
    server: FaultServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.delenv("no_proxy", raising=False)
    file = RemoteFile("x", "http://far.example/x", "recorded")
    server.behaviours["http://far.example/x"] = fault_server.refused("403 Forbidden")
    with pytest.raises(SourceError, match="through a proxy") as refused:
        client.fetch(file, tmp_path / "x", MOST)
    assert not refused.value.answered
    assert server.requests[0][1].startswith("GET http://far.example/x ")


def test_abandoned_download_writes_no_file(server: FaultServer, client: Client, tmp_path: Path) -> None:
    """The next source downloads to the same path."""

    def late(exchange: fault_server.Exchange) -> None:
        exchange.connection.sendall(b"HTTP/1.1 200 OK\r\n")
        time.sleep(0.8)
        exchange.connection.sendall(f"Content-Length: {len(exchange.body)}\r\n\r\n".encode() + exchange.body)

    server.behaviours["/x.gz"] = late
    client.settings = replace(IMPATIENT, total_timeout=0.3)
    before = set(threading.enumerate())
    with pytest.raises(SourceError, match=r"within 0\.3 s"):
        client.fetch(remote(server), tmp_path / "x", MOST)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("behaviour", "answered"),
    [
        (fault_server.Exchange.reset, False),
        (fault_server.Exchange.wait, False),
        (fault_server.refused("404 Not Found"), True),
        (fault_server.redirected("{path}"), True),
        (fault_server.cut, True),
    ],
)
def test_host_that_answered_differs_from_one_that_did_not(
    server: FaultServer, client: Client, tmp_path: Path, behaviour: fault_server.Behaviour, answered: bool
) -> None:
    file = remote(server)
    server.behaviours["/x.gz"] = behaviour
    with pytest.raises(SourceError) as failed:
        client.fetch(file, tmp_path / "x", MOST)
    assert failed.value.answered is answered


def test_no_bar_is_drawn_into_a_log(
    server: FaultServer, client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client.fetch(remote(server), tmp_path / "x", MOST)
    assert capfd.readouterr() == ("", "")


def test_log_does_not_hold_the_address(
    server: FaultServer, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="twinnet")
    secret = RemoteFile("x", server.address.replace("http://", "http://me:secret@") + "/x?token=secret", "recorded")
    with pytest.raises(SourceError) as failed:
        client.fetch(secret, tmp_path / "x", MOST)
    assert "secret" not in str(failed.value) + " ".join(r.getMessage() for r in caplog.records if "twinnet" in r.name)
    assert not any("secret" in str(path) for path in tmp_path.rglob("*"))
