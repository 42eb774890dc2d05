"""Hosts: Linux namespaces with an address, processes, a host name and a disk of their own, on one bridge."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

NETWORK = f"198.18.{os.getpid() % 256}"  # of the range for tests between networks (RFC 2544)
DISK = Path("/mnt")  # where each host sees its own folder; the others' are hidden
# The first process of a host ends with the tests, whose end of its input it reads; all others end with it.
BOOT = f"""
set -e
hostname "$1"; ip link set lo up; ip link set eth0 up; ip address add "$2/24" dev eth0
ip route add default dev eth0  # by which programs look for their own address
mount --bind "$3" {DISK}
if [ -n "$4" ]; then mount --bind "$4" {DISK}/project; fi
mount -t tmpfs none "$(dirname "$3")"; mount -t tmpfs none /dev/shm
mkdir -p {DISK}/home {DISK}/tmp {DISK}/tmp/ray; mount --bind {DISK}/tmp/ray /tmp/ray
echo booted; set +e; read -r _
"""
SWITCH = "ip link add bridge type bridge && ip link set bridge up && echo booted && read -r _"


class Host:
    """A machine: `run` and `start` are its shell; its disk outlives `kill`, after which `boot` starts it again."""

    def __init__(self, network: "Network", address: str, disk: Path, name: str, mounted: Path | None) -> None:
        self.network, self.address, self.disk, self.name, self.mounted = network, address, disk, name, mounted
        self.project = mounted or disk / "project"  # the checkout
        (disk / "project").mkdir(parents=True)
        self.port = f"port{address.rpartition('.')[2]}"  # of the bridge
        self.boot()

    def boot(self) -> None:
        own = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc"]
        connect = ["ip", "link", "add", "eth0", "netns", "{}", "type", "veth", "peer", "name", self.port, "netns"]
        script = f"read -r _; {BOOT}"  # after the cable is there
        words = [script, "init", self.name, self.address, str(self.disk), str(self.mounted or "")]
        self.init = subprocess.Popen(
            ["unshare", *own, "bash", "-c", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = _child(self.init)
        _run(*(word.format(self.pid) for word in connect), str(self.network.pid))
        self.network.run("ip", "link", "set", self.port, "master", "bridge", "up")
        _tell(self.init)
        _await_boot(self.init)

    def link(self, state: str) -> None:
        """Plug the cable in ("up") or out ("down"); out, what is sent is lost without an answer."""
        self.network.run("ip", "link", "set", self.port, state)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Pull the cable out meanwhile."""
        self.link("down")
        try:
            yield
        finally:
            self.link("up")

    def kill(self) -> None:
        """Cut the power: every process is gone, and no other host gets a word of it."""
        self.network.run("ip", "link", "delete", self.port)
        self.init.kill()
        self.init.wait()
        assert self.init.stdin is not None
        self.init.stdin.close()

    def enter(self, **environment: str) -> list[str]:
        """Return the beginning of a command that runs on the host, in its checkout."""
        own = {"HOME": f"{DISK}/home", "TMPDIR": f"{DISK}/tmp"} | environment
        variables = [f"{key}={value}" for key, value in own.items()]
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
        return ["nsenter", "--target", str(self.pid), *spaces, "--", "env", f"--chdir={DISK}/project", *variables]

    def start(self, *command: str, **environment: str) -> "Command":
        """Start a command with its folder as working directory; `python` is that of these tests."""
        program = {"python": sys.executable}.get(command[0], command[0])
        log = self.disk / f"{len(list(self.disk.glob('*.log')))}.log"
        with log.open("w", encoding="utf-8") as file:
            words = [*self.enter(**environment), program, *command[1:]]
            return Command(
                subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT), log
            )

    def run(self, *command: str, **environment: str) -> str:
        """Return what the command printed. Fails the test if the command fails."""
        return self.start(*command, **environment).finish()


@dataclass
class Command:
    """A command on a host; `log` has what it has printed so far."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def kill(self) -> None:
        """As `kill -9` of the program, and not of those that it has started."""
        for child in psutil.Process(self.process.pid).children():
            child.kill()
        self.process.wait()

    def finish(self, seconds: float = 300.0, status: int = 0) -> str:
        """Wait for its end; return what it printed. Fails the test if it ends in another way."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"took more than {seconds:g} s: {self.process.args!r}\n{self.text}")
        assert self.process.returncode == status, f"{self.process.args!r}\n{self.text}"
        return self.text

    def await_text(self, pattern: str, seconds: float = 300.0) -> None:
        """Wait until what it printed has a match of the pattern."""
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < until, f"not printed within {seconds:g} s: {pattern}\n{self.text}"
            time.sleep(0.1)


class Network:
    """A bridge, and the hosts on it; this process is on it too."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.hosts = folder, stack, dict[str, Host]()
        self.switch = subprocess.Popen(
            ["unshare", "--net", "--fork", "--kill-child", "bash", "-c", SWITCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self.switch.wait)
        stack.callback(self.switch.kill)
        _await_boot(self.switch)
        self.pid = _child(self.switch)
        own = f"twinnet{os.getpid() % 10**7}"
        _run("ip", "link", "add", own, "type", "veth", "peer", "name", "port1", "netns", str(self.pid))
        _run("ip", "address", "add", f"{NETWORK}.1/24", "dev", own)
        _run("ip", "link", "set", own, "up")
        self.run("ip", "link", "set", "port1", "master", "bridge", "up")

    def host(self, disk: str, name: str = "", mounted: Path | None = None) -> Host:
        """Add a host with a new disk; `name` is its host name, `mounted` the checkout that it shares with others."""
        address = f"{NETWORK}.{len(self.hosts) + 2}"
        self.hosts[disk] = host = Host(self, address, self.folder / disk, name or disk, mounted)
        self.stack.callback(lambda: host.init.poll() is None and host.kill())
        return host

    def run(self, *command: str) -> None:
        _run("nsenter", "--target", str(self.pid), "--net", *command)


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Yield a network without hosts; they end with it. Skips the test where namespaces cannot be made."""
    Path("/tmp/ray").mkdir(exist_ok=True)  # where each host has its own
    with ExitStack() as stack:
        try:
            made = Network(folder, stack)
        except (OSError, AssertionError) as error:
            reason = str(error).splitlines()[-1]
            pytest.skip(f"needs root, util-linux and iproute2, and a kernel that allows namespaces: {reason}")
        yield made


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr.strip()}"


def _child(process: subprocess.Popen[Any]) -> int:
    while not (children := psutil.Process(process.pid).children()):
        assert process.poll() is None, "unshare failed"
    return children[0].pid


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _await_boot(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "booted\n", f"{process.args}: {line or 'no word'}"
