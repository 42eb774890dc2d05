"""A small http server on the loopback address that can do everything wrong that a network does.

Each path has a behaviour: a function of the exchange, which holds the connection, the request and the true file.
"""

import gzip
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LONGEST = 30.0  # seconds that a stalling server holds a connection
BEAT = 0.05  # seconds between two bytes of a trickle


@dataclass
class Exchange:
    """One request: its headers in lower case, how often this path was asked before, and the file that is right."""

    connection: socket.socket
    path: str
    headers: dict[str, str]
    before: int
    body: bytes
    stopping: threading.Event

    def send(self, status: str = "200 OK", headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """A whole answer; the length is announced unless `headers` say something about it."""
        headers = {"Connection": "close", **(headers or {})}
        if not {"Content-Length", "Transfer-Encoding"} & set(headers):
            headers["Content-Length"] = str(len(body))
        self.head(status, {name: value for name, value in headers.items() if value})
        self.connection.sendall(body)

    def head(self, status: str, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def wait(self) -> None:
        """Say nothing for as long as anybody listens."""
        self.stopping.wait(LONGEST)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Behaviour = Callable[[Exchange], None]


@dataclass
class FaultServer:
    """Routes of a running server: path (without its query) -> the right file and what is done with it."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    otherwise: Behaviour | None = None  # for every other path
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def handle(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        first, *rest = request.decode("latin-1").split("\r\n")
        path = first.split(" ")[1].partition("?")[0]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest if line)}
        self.requests.append((time.monotonic(), first, headers))
        exchange = Exchange(connection, path, headers, self.asked[path], self.files.get(path, b""), self.stopping)
        self.asked[path] += 1
        behaviour = self.behaviours.get(path, well if path in self.files else self.otherwise)
        (behaviour or refused("404 Not Found"))(exchange)


@contextmanager
def serving() -> Iterator[FaultServer]:
    """A running server on a free port, stopped at the end."""
    faults = FaultServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client has had enough, as it should
                faults.handle(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        faults.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield faults
        finally:
            faults.stopping.set()
            server.shutdown()


# ------------------------------------------------------------------------------------------ what servers do


def well(exchange: Exchange) -> None:
    """A good server."""
    exchange.send(body=exchange.body)


def refused(status: str, **headers: str) -> Behaviour:
    return lambda exchange: exchange.send(status, {name.replace("_", "-"): value for name, value in headers.items()})


def gives(edit: Callable[[bytes], bytes], **headers: str) -> Behaviour:
    """The right file after `edit`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send(headers=named, body=edit(exchange.body))


def at_first(times: int, fault: Behaviour, then: Behaviour = well) -> Behaviour:
    """A fault that passes."""
    return lambda exchange: (fault if exchange.before < times else then)(exchange)


def cut(exchange: Exchange) -> None:
    """Announces everything and sends half."""
    exchange.send(headers={"Content-Length": str(len(exchange.body))}, body=exchange.body[: len(exchange.body) // 2])


def cut_unannounced(exchange: Exchange) -> None:
    """Half of it, to the end of a line, if there are lines, without announcing the length."""
    half = exchange.body[: len(exchange.body) // 2]
    exchange.send(headers={"Content-Length": ""}, body=half[: half.rfind(b"\n") + 1] or half)


def reset_halfway(exchange: Exchange) -> None:
    exchange.send(headers={"Content-Length": str(len(exchange.body))}, body=exchange.body[: len(exchange.body) // 2])
    time.sleep(BEAT)
    exchange.reset()


def stall_halfway(exchange: Exchange) -> None:
    cut(exchange)
    exchange.wait()


def trickle(exchange: Exchange) -> None:
    exchange.head("200 OK", {"Content-Length": str(len(exchange.body))})
    _drip(exchange, exchange.body)


def trickle_headers(exchange: Exchange) -> None:
    _drip(exchange, b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 1\r\n" * 60)


def _drip(exchange: Exchange, content: bytes) -> None:
    for byte in content:
        if exchange.stopping.wait(BEAT):
            return
        exchange.connection.sendall(bytes([byte]))


def endless(exchange: Exchange) -> None:
    exchange.head("200 OK", {"Transfer-Encoding": "chunked"})
    chunk = b"10000\r\n" + exchange.body[:1000].ljust(65536, b" ") + b"\r\n"
    while not exchange.stopping.is_set():
        exchange.connection.sendall(chunk)


def bad_chunks(exchange: Exchange) -> None:
    exchange.send(headers={"Transfer-Encoding": "chunked"}, body=b"zz\r\n" + exchange.body)


def chunked(exchange: Exchange) -> None:
    body = exchange.body
    parts = [body[at : at + 5000] for at in range(0, len(body), 5000)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    exchange.send(headers={"Transfer-Encoding": "chunked"}, body=sent)


def encoded(exchange: Exchange) -> None:
    """Compresses although nobody asked for it."""
    exchange.send(headers={"Content-Encoding": "gzip"}, body=gzip.compress(exchange.body))


def redirected(to: str) -> Behaviour:
    """`{path}` in `to` is the path that was asked."""
    return lambda exchange: exchange.send("302 Found", {"Location": to.format(path=exchange.path)})
