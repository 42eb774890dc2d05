"""Whole sweeps, from the command line to the summary in the store: more jobs, and batched jobs."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.interleaved import ROOT, Peer, Row
from benchmarks.problems import players
from twinnet.core import provenance
from twinnet.core.provenance import Provenance

JOBS, EPOCHS = 64, 2000
BATCHED, BATCHED_EPOCHS = 256, 100_000
JOBLIB = "hydra/launcher=joblib"
JOBS_WORDS = (JOBLIB, "engine=scratch_numpy", f"epochs={EPOCHS}", f"seed=range(0,{JOBS})")
LIMIT = 2400.0  # seconds of a sweep
LOOK = 0.2  # seconds between two looks at its processes
PARTS = ("leader", "workers", "follower", "cluster")

ROWS = [
    Row(
        "sweep",
        "sweep",
        [
            Peer(f"{JOBS} jobs", "benchmarks.sweep:jobs"),
            Peer(f"{BATCHED} batched", "benchmarks.sweep:batched"),
        ],
        at_least={f"{JOBS} jobs": 25, f"{BATCHED} batched": 90},
        aim={},
        rounds=1,
        note=f"jobs of 2-4-1, {EPOCHS} epochs each, by joblib on every core, tracked; {BATCHED} batched: "
        f"{BATCHED_EPOCHS} epochs each; from the command to its summary",
        kind="seconds",
    ),
    Row(
        "sweep_cpu",
        "sweep",
        [Peer(part, f"benchmarks.sweep:{part}") for part in ("leader", "workers", "follower")],
        at_least={},
        aim={},
        rounds=1,
        note=f"CPU of the same {JOBS} jobs, on a machine with no other sweep: the process that leads the sweep, those "
        "that train its jobs, and the one that sends their runs to the store",
        one_process=True,
        kind="seconds",
    ),
]


def sweep(*words: str) -> Callable[[], int]:
    """Return a sweep in an empty checkout."""
    calls = count()

    def run() -> int:
        if next(calls):  # a sweep starts processes of its own, so there is nothing to warm up
            with checkout() as folder, _started(folder, *words) as leader:
                assert leader.wait(LIMIT) == 0
        return 1

    return run


@contextmanager
def _started(folder: Path, *words: str) -> Iterator[psutil.Popen]:
    command = [sys.executable, "-m", "twinnet.train", "-m", "experiment=nba_scratch", *words]
    leader = psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield leader
    finally:
        if leader.poll() is None:
            leader.terminate()


def measure_sweep(folder: Path, *words: str) -> tuple[float, dict[str, float]]:
    """Run a sweep in the checkout `folder`; return its seconds, and the processes and files that it took.

    A part is the leader, the workers (processes of jobs), the follower, or the cluster (processes of Ray). Its memory
    is the largest sum of resident pages at a moment, its CPU that of the processes that lived for a look.
    """
    cpu: dict[str, dict[int, float]] = {part: {} for part in PARTS}
    peak, processes, open_files, start = dict.fromkeys(PARTS, 0.0), 0, 0, time.monotonic()
    with _started(folder, *words) as leader:
        while leader.poll() is None:
            assert time.monotonic() < start + LIMIT
            memory = dict.fromkeys(PARTS, 0.0)
            alive = [leader, *_children(leader)]
            for process in alive:
                with suppress(psutil.Error):
                    command = process.cmdline()
                    if process is not leader and command[1:] == leader.args[1:]:
                        continue  # it is about to become another program, and shares the leader's pages until then
                    part = "leader" if process is leader else _part_of(command)
                    times = process.cpu_times()
                    cpu[part][process.pid] = times.user + times.system
                    memory[part] += process.memory_info().rss / 1e6
            with suppress(psutil.Error):
                open_files = max(open_files, leader.num_fds())
            processes = max(processes, len(alive))
            peak = {part: max(peak[part], memory[part]) for part in PARTS}
            time.sleep(LOOK)
        assert leader.returncode == 0
    seconds = time.monotonic() - start
    made = [path.stat().st_size for path in (folder / "outputs").rglob("*") if path.is_file()]
    return seconds, {
        **{f"{part}, peak MB": peak[part] for part in PARTS},
        **{f"{part}, CPU seconds": sum(cpu[part].values()) for part in PARTS},
        "processes": processes,
        "open files of the leader": open_files,
        "files in outputs/": len(made),
        "MB in outputs/": sum(made) / 1e6,
        "MB of mlflow.db": sum(path.stat().st_size for path in folder.glob("mlflow.db")) / 1e6,  # 0: on a server
    }


def _children(leader: psutil.Process) -> list[psutil.Process]:
    try:
        return leader.children(recursive=True)
    except psutil.Error:
        return []


def _part_of(command: list[str]) -> str:
    text = " ".join(command)
    if "twinnet.tracking.follow" in text:
        return "follower"
    is_ray = "/ray/" in text and "ray::" not in text and "default_worker" not in text
    return "cluster" if is_ray else "workers"


def _cpu() -> dict[str, float]:
    """Run the jobs; return the CPU seconds of each part of the sweep."""
    with checkout() as folder:
        _, quantities = measure_sweep(folder, *JOBS_WORDS)
    return {part: quantities[f"{part}, CPU seconds"] for part in PARTS}


def _part(name: str) -> Callable[[], tuple[float, float]]:
    """Return what gives the CPU seconds of a part, of one sweep for all parts."""
    calls = count()

    def run() -> tuple[float, float]:
        if name == "leader" and next(calls):
            MEASURED.update(_cpu())
        return 1, MEASURED.get(name, 0.0)

    return run


MEASURED: dict[str, float] = {}
leader, workers, follower = (partial(_part, name) for name in ("leader", "workers", "follower"))
jobs = partial(sweep, *JOBS_WORDS)
batched = partial(
    sweep, JOBLIB, "engine.batch_configs=true", f"epochs={BATCHED_EPOCHS}", f"seed=range(0,{BATCHED // 4})",
    "optimizer.learning_rate=0.0005,0.001,0.002,0.004",
)  # fmt: skip


@contextmanager
def checkout() -> Iterator[Path]:
    """Configuration and data, and no result."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # the follower ends later
        folder = Path(name)
        shutil.copytree(ROOT / "conf", folder / "conf")
        (folder / "dvc.yaml").touch()
        problem = players("numpy", EPOCHS)
        X, y = np.concatenate([problem.X_train, problem.X_valid]), np.concatenate([problem.y_train, problem.y_valid])
        table = pd.DataFrame({"season": 2019, "apg": X[:, 0], "rpg": X[:, 1], "is_forward": y})
        drawn = Provenance("nba", provenance.SYNTHETIC, "none", "drawn for a benchmark", ())
        provenance.write_processed(folder, "table.csv", table.to_csv(index=False).encode(), drawn)
        yield folder
