"""What MLflow costs: whole trainings, tracked in SQLite and untracked, on synthetic data in their own folder.

A slice reads the data, trains, evaluates, draws and writes the run; tracked, it also tells MLflow while it trains and
waits until the store has the whole run. The first training, which imports MLflow, is not measured, but in
`tracking_command` each slice is a new process that imports everything.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.interleaved import ROOT, Peer, Row

PEER = "tracking=none"

ROWS = [
    Row(
        "tracking_dense",
        "training",
        [
            Peer("tracked", "benchmarks.tracking:dense_tracked"),
            Peer(PEER, "benchmarks.tracking:dense_untracked"),
        ],
        at_least={PEER: 0.98},
        aim={},
        rounds=7,
        note="fashion_dense_book; tracking may add 2%",
        one_process=True,
    ),
    Row(
        "tracking_nba",
        "training",
        [
            Peer("tracked", "benchmarks.tracking:nba_tracked"),
            Peer(PEER, "benchmarks.tracking:nba_untracked"),
        ],
        at_least={},
        aim={},
        rounds=7,
        note="nba_scratch; tracking may add half a second",
        one_process=True,
    ),
    Row(
        "tracking_command",
        "command",
        [
            Peer("tracked", "benchmarks.tracking:command_tracked"),
            Peer(PEER, "benchmarks.tracking:command_untracked"),
        ],
        at_least={},
        aim={},
        rounds=5,
        note="python -m twinnet.train experiment=nba_scratch, from its start to its end",
    ),
]


def project(experiment: str) -> Path:
    """A checkout with synthetic data for the experiment, which goes when this process ends."""
    from twinnet.core import config
    from twinnet.data.download.download import download_dataset
    from twinnet.data.preprocess import preprocess_dataset

    folder = Path(tempfile.mkdtemp(prefix="twinnet-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=b", "-c", "user.email=b@c", "commit", "-qm", "."]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    name = "nba" if experiment.startswith("nba") else "fashion_mnist"
    suite = config.compose(folder, "config", [f"datasets.{name}.source=synthetic"])
    dataset = config.dataset(suite["datasets"][name])
    download_dataset(dataset, folder)
    preprocess_dataset(dataset, folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return folder


def training(name: str, tracked: bool) -> Callable[[], int]:
    from twinnet.core import config
    from twinnet.core.schema import Tracking
    from twinnet.tracking.live import tracker
    from twinnet.training import experiment as training

    folder, runs = project(name), count()
    experiment = config.experiment(config.compose(folder, "train", [f"experiment={name}"]))

    def train() -> int:
        reporter = tracker(Tracking(enabled=tracked), root=folder)
        training.train(experiment, folder / "runs" / str(next(runs)), root=folder, tracker=reporter)
        return 1

    return train


def command(tracked: bool) -> Callable[[], int]:
    folder = project("nba_scratch")
    choice = f"tracking={'mlflow' if tracked else 'none'}"

    def train() -> int:
        arguments = ["-m", "twinnet.train", "experiment=nba_scratch", choice]
        subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
        return 1

    return train


dense_tracked = partial(training, "fashion_dense_book", tracked=True)
dense_untracked = partial(training, "fashion_dense_book", tracked=False)
nba_tracked = partial(training, "nba_scratch", tracked=True)
nba_untracked = partial(training, "nba_scratch", tracked=False)
command_tracked = partial(command, tracked=True)
command_untracked = partial(command, tracked=False)
