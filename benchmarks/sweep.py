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
JOBS_WORDS = ("engine=scratch_numpy", f"epochs={EPOCHS}", f"seed=range(0,{JOBS})")
LIMIT = 1200.0  # seconds of a sweep

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
            with _started(*words) as leader:
                assert leader.wait(LIMIT) == 0
        return 1

    return run


@contextmanager
def _started(*words: str) -> Iterator[psutil.Popen]:
    command = ["-m", "twinnet.train", "-m", "experiment=nba_scratch", "hydra/launcher=joblib", *words]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the follower ends later
        leader = psutil.Popen([sys.executable, *command], cwd=_checkout(Path(folder)), stdout=subprocess.DEVNULL)
        try:
            yield leader
        finally:
            if leader.poll() is None:
                leader.terminate()


def _cpu() -> dict[str, float]:
    """Run the jobs; return the CPU seconds of each part of the sweep."""
    seconds: dict[str, dict[int, float]] = {"leader": {}, "workers": {}, "follower": {}}
    with _started(*JOBS_WORDS) as leader:
        while leader.poll() is None:
            for process in (leader, *leader.children(recursive=True)):
                with suppress(psutil.Error):
                    times, is_follower = process.cpu_times(), "twinnet.tracking.follow" in process.cmdline()
                    part = "leader" if process is leader else "follower" if is_follower else "workers"
                    seconds[part][process.pid] = times.user + times.system
            time.sleep(0.2)
    return {part: sum(values.values()) for part, values in seconds.items()}


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
    sweep, "engine.batch_configs=true", f"epochs={BATCHED_EPOCHS}", f"seed=range(0,{BATCHED // 4})",
    "optimizer.learning_rate=0.0005,0.001,0.002,0.004",
)  # fmt: skip


def _checkout(folder: Path) -> Path:
    """Configuration and data, and no result."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "dvc.yaml").touch()
    problem = players("numpy", EPOCHS)
    X, y = np.concatenate([problem.X_train, problem.X_valid]), np.concatenate([problem.y_train, problem.y_valid])
    table = pd.DataFrame({"apg": X[:, 0], "rpg": X[:, 1], "is_forward": y})
    drawn = Provenance("nba", provenance.SYNTHETIC, "none", "drawn for a benchmark", ())
    provenance.write_processed(folder, "table.csv", table.to_csv(index=False).encode(), drawn)
    return folder
