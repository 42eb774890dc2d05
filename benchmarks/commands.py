"""Seconds of whole commands, each a new process: what a user waits for, or the CPU seconds that it takes."""

import atexit
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import ROOT, Peer, Row
from benchmarks.tiny import ONE
from benchmarks.tracking import project

EPOCHS, MORE = 100_000, 1_000_000
TRAIN = ("twinnet.train", "experiment=nba_scratch")

PARTS = {
    "imports of Hydra and NumPy": "import twinnet.train",
    "imports of Matplotlib and pandas": "import pandas; from twinnet.compare.draw import draw_run",
    "JAX's import and start": "from twinnet.engines.scratch import jax_trainer",
    "composing, each time": """
from pathlib import Path
from twinnet.core import config
experiment = config.experiment(config.compose(Path(), "train", ["experiment=nba_scratch", "epochs=2000"]))""",
    "reading, compiling, training, writing": """
from twinnet.training.experiment import train
run = train(experiment, Path("outputs/startup"))""",
    "figures": "draw_run(run)",
}
STARTED: list[Any] = []  # the folder, and the seconds of each part in the last process
MEASURED = "before = time.process_time()\n{}\nprint(time.process_time() - before)"

ROWS = [
    Row(
        "tiny_command",
        "epoch",
        [
            Peer("python -m twinnet.train, CPU", "benchmarks.commands:epochs", ONE, cores=1),
            Peer("textbook", "benchmarks.tiny:textbook", ONE, cores=1),
        ],
        at_least={"textbook": 20},
        aim={"textbook": 24},
        rounds=3,
        note=f"CPU of {EPOCHS + MORE} epochs less that of {EPOCHS}: with the history, the figures and what tracks them",
    ),
    Row(
        "commands",
        "command",
        [
            Peer("train nba_scratch, 2,000 epochs, CPU", "benchmarks.commands:train"),
            Peer("predict a picture", "benchmarks.commands:predict"),
            Peer("predict a wrong file", "benchmarks.commands:predict_wrong"),
            Peer("import twinnet", "benchmarks.commands:import_twinnet"),
            Peer("dvc repro, nothing to do", "benchmarks.commands:dvc_repro"),
            Peer("dvc exp run, nba_scratch", "benchmarks.commands:dvc_exp_run"),
        ],
        at_least={
            "train nba_scratch, 2,000 epochs, CPU": 3, "predict a picture": 4, "predict a wrong file": 1,
            "import twinnet": 0.3, "dvc repro, nothing to do": 5, "dvc exp run, nba_scratch": 12,
        },
        aim={},
        rounds=3,
        note="from start to end of a process; a picture by fashion_dense_scratch",
        kind="seconds",
    ),
    Row(
        "startup",
        "command",
        [Peer(part, f"benchmarks.commands:startup:{number}") for number, part in enumerate(PARTS)],
        at_least={},
        aim={},
        rounds=5,
        note="CPU of the parts of `python -m twinnet.train experiment=nba_scratch epochs=2000 tracking=none`",
        kind="seconds",
        one_process=True,
    ),
]  # fmt: skip


def epochs() -> Callable[[], tuple[float, float]]:
    folder, calls = project("nba_scratch"), count()

    def run() -> tuple[float, float]:
        if not next(calls):
            return 1, 0  # nothing of a command stays warm
        short, long = (_cpu(folder, *TRAIN, f"epochs={number}") for number in (EPOCHS, EPOCHS + MORE))
        return MORE, long - short

    return run


def train() -> Callable[[], tuple[float, float]]:
    folder = project("nba_scratch")
    return lambda: (1, _cpu(folder, *TRAIN, "epochs=2000"))


def dvc_repro() -> Callable[[], int]:
    """In this checkout, if all its stages have run; `publish`, after them, counts as changed always."""
    status = [sys.executable, "-m", "dvc", "status", "-q", "--with-deps", "compare"]
    if subprocess.run(status, cwd=ROOT, capture_output=True).returncode:
        raise ImportError("it needs a checkout whose stages have run (make repro)")
    return _command(ROOT, "-m", "dvc", "repro")


def dvc_exp_run() -> Callable[[], int]:
    """In a clone of this checkout, with its DVC cache, if all its stages have run and are committed."""
    folder, numbers = Path(tempfile.mkdtemp(prefix="twinnet-bench-")), count(2001)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "cache", "dir", "-q", "--local", ROOT / ".dvc/cache"], cwd=folder, check=True)
    for name in ("checkout", "repro"):
        if subprocess.run([*dvc, name, "-q"], cwd=folder, capture_output=True).returncode:
            raise ImportError("it needs a checkout whose stages have run and whose dvc.lock is committed (make repro)")
    # Fills build/figures/, as `make repro` has in the checkout: else the first experiment draws every run.
    subprocess.run([*dvc, "repro", "-q", "--single-item", "--force", "compare"], cwd=folder, check=True)

    def run() -> int:
        return _command(folder, "-m", "dvc", "exp", "run", "-S", f"experiments.nba_scratch.epochs={next(numbers)}")()

    return run


def startup(part: int) -> Callable[[], tuple[int, float]]:
    """Return the CPU seconds of a part of a new process; the first part starts it, and the others read its answers."""
    if part == 0:
        STARTED.append(project("nba_scratch"))
    start = "import time; from twinnet.core.garbage import collect_rarely; collect_rarely()"
    code = "\n".join([start, *map(MEASURED.format, PARTS.values())])

    def run() -> tuple[int, float]:
        if part == 0:
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=STARTED[0], capture_output=True, text=True, check=True
            )
            STARTED[1:] = map(float, done.stdout.split())
        return 1, STARTED[1 + part]

    return run


def _predict(is_picture: bool) -> Callable[[], int]:
    from PIL import Image

    folder = project("fashion_dense_scratch")
    _cpu(
        folder, "twinnet.train", "experiment=fashion_dense_scratch", "epochs=1", "limits.samples=1000", "tracking=none"
    )
    (model,) = folder.glob("outputs/*/*/model.npz")
    picture = folder / "picture.png"
    if is_picture:
        Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(picture)
    else:
        picture.write_text("no picture")
    return _command(folder, "-m", "twinnet.predict", str(model), str(picture), fails=not is_picture)


def _command(folder: Path, *words: str, fails: bool = False) -> Callable[[], int]:
    def run() -> int:
        done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stderr
        return 1

    return run


predict = partial(_predict, is_picture=True)
predict_wrong = partial(_predict, is_picture=False)
import_twinnet = partial(_command, ROOT, "-c", "import twinnet")


def _cpu(folder: Path, *words: str) -> float:
    """CPU seconds of `python -m`; not those of the process that sends the run to MLflow, which outlives it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _command(folder, "-m", *words)()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
