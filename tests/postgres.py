"""A private PostgreSQL cluster for the tests that need a database server."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "a-pass-word-of-the-database"


def programs() -> Path:
    """The folder of PostgreSQL's programs, of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


@contextmanager
def cluster(host: str = "127.0.0.1", enter: Sequence[str] = ()) -> Iterator[str]:
    """A private cluster; yields the address of its database. As root it runs as `nobody`: PostgreSQL refuses root.

    `enter` begins a command that runs on the machine with the address `host`.
    """
    binaries = programs()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="twinnet-postgres-", dir="/tmp"))
    other = [*enter, *(["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else [])]
    (folder / "password").write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody")

    def run(*command: str) -> None:
        ran = subprocess.run([*other, *command], cwd=folder, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    data = str(folder / "data")
    try:
        run(
            str(binaries / "initdb"), "-D", data, "-U", "tester", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
            "--locale=C", f"--pwfile={folder / 'password'}",
        )  # fmt: skip
        with Path(data, "pg_hba.conf").open("a", encoding="utf-8") as file:
            file.write(f"host all all {host}/24 scram-sha-256\n")
        options = f"-c listen_addresses={host} -p {port} -k {folder} -c fsync=off"
        run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://tester:{PASSWORD}@{host}:{port}/postgres"
    finally:
        subprocess.run([*other, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
