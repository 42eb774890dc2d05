"""Names of processes, and which of them have died: those of this process table by their number, others by their lock.

Hosts and containers that share a checkout, or a store alone, may give the same number, host name and boot.
"""

import atexit
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

BOOT = Path("/proc/sys/kernel/random/boot_id")  # Linux
NAMESPACE = Path("/proc/self/ns/pid")


def this_process() -> str:
    """Return host, process id and start: the name of a process for good, as ids are given out again."""
    return f"{socket.gethostname()} {os.getpid()} {_start(os.getpid())}"


def is_local(process: str) -> bool:
    """Return whether `this_process` named a process of this table, living or dead."""
    start = process.rpartition(" ")[2]
    return process.startswith(f"{socket.gethostname()} ") and start.startswith(f"{_table()}:")


def is_running(process: str) -> bool:
    """Return whether a process of this table runs."""
    _, pid, start = process.rsplit(" ", 2)
    try:
        return _start(int(pid)) == start and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def has_died(process: str, locks: Path) -> bool:
    """Return whether a process no longer runs; False for one of another table that left no lock in `locks`."""
    if is_local(process):
        return not is_running(process)
    lock = locks / f"{process}.lock"
    with suppress(Timeout, OSError):
        if lock.exists():
            with FileLock(lock, timeout=0):
                return True
    return False


def dead_processes(locks: Path) -> list[str]:
    """Return each process that died without removing its lock."""
    return [file.stem for file in locks.glob("*.lock") if has_died(file.stem, locks)]


@cache
def hold_lock(process: str, locks: Path) -> FileLock:
    """Hold the lock of this process until it ends: the system frees it, for other hosts that have the folder too."""
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{process}.lock", thread_local=False)
    lock.acquire()
    atexit.register(Path(lock.lock_file).unlink, missing_ok=True)
    return lock


def _table() -> str:
    """Return boot and PID namespace, within which a number is one process at a time."""
    return f"{BOOT.read_text('utf-8').strip()}:{NAMESPACE.stat().st_ino}" if BOOT.exists() else ""


def _start(pid: int) -> str:
    """Return the process table, and when a process started, by a clock that nobody sets if there is one."""
    if not BOOT.exists():
        return f":{psutil.Process(pid).create_time():.2f}"
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()  # from 3 on; 2 may hold spaces
    return f"{_table()}:{fields[19]}"
