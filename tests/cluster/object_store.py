"""An object store: moto's server, behind a relay that can be full, be cut, or never answer."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, free_port

PROGRAMS = ROOT / "build/cluster/object-store/bin"  # by `make cluster`, from object_store.txt
REGION, BUCKET = "us-east-1", "bucket"
FULL = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold.</Message>
</Error>"""


class ObjectStore:
    """`full_after`, `cut_after` and `hangs` say how it fails; `read` names what it gave away at signed addresses."""

    def __init__(self, port: int) -> None:
        self.port = port  # of moto
        self.full_after = self.cut_after = float("inf")  # bytes of uploads, or of downloads, from now on
        self.hangs = False
        self.slow = 0.0  # seconds a request
        self.signed: list[str] = []
        relay = type("Handler", (Relay,), {"store": self})
        self.relay = ThreadingHTTPServer(("127.0.0.1", 0), relay)
        self.relay.daemon_threads = True
        self.relay.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that went away
        self.address = f"http://127.0.0.1:{self.relay.server_address[1]}"
        threading.Thread(target=self.relay.serve_forever, daemon=True).start()
        self.client("s3", "any", "any").create_bucket(Bucket=BUCKET)
        self.key, self.secret = self._make_key()

    def heal(self) -> None:
        self.full_after = self.cut_after = float("inf")
        self.hangs, self.slow = False, 0.0

    def client(self, service: str, key: str, secret: str) -> Any:
        import boto3  # 0.3 s

        options = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": REGION}
        return boto3.client(service, endpoint_url=f"http://127.0.0.1:{self.port}", **options)

    def _make_key(self) -> tuple[str, str]:
        """Return a key and its secret, which alone may use the bucket after `check_signatures`."""
        users = self.client("iam", "any", "any")
        users.create_user(UserName="user")
        everything = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
        users.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=everything)
        made = users.create_access_key(UserName="user")["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def check_signatures(self, checks: bool = True) -> None:
        """Let moto check each request's signature, which it cannot do for signed addresses."""
        body = b"0" if checks else b"1000000000"
        address = f"http://127.0.0.1:{self.port}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "text/plain"})).close()

    def objects(self, prefix: str = "") -> set[str]:
        """Return the names of the objects."""
        pages = self.client("s3", self.key, self.secret).get_paginator("list_objects_v2")
        return {
            entry["Key"] for page in pages.paginate(Bucket=BUCKET, Prefix=prefix) for entry in page.get("Contents", [])
        }

    def credentials(self, secret: str = "", address: str = "") -> dict[str, str]:
        """Return the variables of a client."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": secret or self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "MLFLOW_S3_ENDPOINT_URL": address or self.address,
        }


class Relay(BaseHTTPRequestHandler):
    """One connection to the store."""

    store: ObjectStore
    protocol_version = "HTTP/1.1"

    def relay(self) -> None:
        store, length = self.store, int(self.headers.get("Content-Length") or 0)
        time.sleep(store.slow)
        while store.hangs:
            time.sleep(0.1)
        if "X-Amz-Signature=" in self.path:
            store.signed.append(self.path.partition("?")[0])
        uploads = self.command in ("PUT", "POST")
        if uploads and length > store.cut_after:
            self.rfile.read(int(store.cut_after))
            return self.cut()
        body = self.rfile.read(length)
        if uploads and length:
            store.full_after -= length
            store.cut_after -= length
        if uploads and store.full_after < 0:
            return self.answer(507, [("Content-Type", "application/xml")], FULL)
        moto = http.client.HTTPConnection("127.0.0.1", store.port)
        moto.request(self.command, self.path, body, dict(self.headers.items()))
        found = moto.getresponse()
        content = found.read()
        moto.close()
        headers = [pair for pair in found.getheaders() if pair[0].lower() not in ("connection", "transfer-encoding")]
        if self.command == "GET":
            store.cut_after -= len(content)
            if store.cut_after < 0:
                self.answer(found.status, headers, content, n_bytes=len(content) // 2)
                return self.cut()
        return self.answer(found.status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, n_bytes: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body[:n_bytes])

    def cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A running store with an empty bucket; its log is moto.log."""
    program = PROGRAMS / "moto_server"
    if not program.exists():
        pytest.fail(f"expected {program}, which `make cluster` installs; received none")
    port = free_port()
    with (folder / "moto.log").open("w") as log:
        moto = subprocess.Popen([program, "-p", str(port)], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and moto.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            time.sleep(0.1)
        store = ObjectStore(port)
        yield store
        store.heal()
        store.relay.shutdown()
    finally:
        moto.kill()
        moto.wait()


def dvc(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the DVC that reaches object stores; both streams come back as stdout."""
    path = f"{PROGRAMS}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [PROGRAMS / "dvc", *words], cwd=folder, env=os.environ | {"PATH": path} | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
