"""Whole sweeps, from the command line to the summary in the store: more jobs, and batched jobs."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.interleaved import ROOT, Peer, Row
from benchmarks.problems import players
from twinnet.core import provenance
from twinnet.core.provenance import Provenance

JOBS, EPOCHS = 64, 2000
BATCHED, BATCHED_EPOCHS = 256, 100_000

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
    )
]


def sweep(*words: str) -> Callable[[], int]:
    """Return a sweep in an empty checkout."""
    calls = count()

    def run() -> int:
        if next(calls):  # a sweep starts processes of its own, so there is nothing to warm up
            with tempfile.TemporaryDirectory() as folder:
                command = ["-m", "twinnet.train", "-m", "experiment=nba_scratch", "hydra/launcher=joblib", *words]
                subprocess.run(
                    [sys.executable, *command], cwd=_checkout(Path(folder)), check=True, stdout=subprocess.DEVNULL
                )
        return 1

    return run


jobs = partial(sweep, "engine=scratch_numpy", f"epochs={EPOCHS}", f"seed=range(0,{JOBS})")
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
