"""Odd machines and surroundings, and what the commands make of them: `make faults` prints the table, a test runs it.

Each row starts real processes in a copy of the checkout that has a small table of synthetic players.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.processed import write_players

ROOT = Path(__file__).parents[1]
COPIED = ("conf", "src", "pipelines", "dvc.yaml", "params.yaml", ".dvcignore", ".gitattributes", "Makefile")
TRAIN = (
    "twinnet.train", "experiment=nba_scratch", "engine=scratch_numpy", "epochs=20", "tracking=none",
    "hydra.run.dir=outputs/tried",
)  # fmt: skip
JAX = tuple(word for word in TRAIN if not word.startswith("engine="))
TRAINED = "outputs/tried/metrics.json"


@dataclass(frozen=True)
class Machine:
    """What is odd, the command that is run there, and what must come of it."""

    tried: str
    command: tuple[str, ...] = TRAIN
    environment: dict[str, str | None] = field(default_factory=dict)  # None: not set
    prepare: Callable[[Path], object] = lambda project: None
    folder: str = "."  # of the command, in the project
    expected: str = ""  # a part of the one line of its refusal; none: it must end well
    left: str = TRAINED  # what it must leave, in the project
    suffix: str = ""  # of the checkout's folder


@dataclass(frozen=True)
class Outcome:
    tried: str
    answer: str
    is_right: bool


def _link_elsewhere(name: str) -> Callable[[Path], object]:
    """Make a folder of the project a link to another file system."""

    def link(project: Path) -> None:
        place = Path(tempfile.mkdtemp(prefix="twinnet-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        (project / name).symlink_to(place)

    return link


def _write(name: str, text: str) -> Callable[[Path], object]:
    def write(project: Path) -> None:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    return write


def _with_carriage_returns(project: Path) -> None:
    for file in [*(project / "conf").rglob("*.yaml"), project / "params.yaml", project / "dvc.yaml"]:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def _with_accents(project: Path) -> None:
    file = project / "conf/experiment/nba_scratch.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace('description: "', 'description: "Dončić, Jokić: '), "utf-8"
    )


LATIN = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
MACHINES = (
    Machine("a backend of IPython (MPLBACKEND)", environment={"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    Machine("a backend that does not exist (MPLBACKEND)", environment={"MPLBACKEND": "nonsense"}),
    Machine("a locale that is not UTF-8, names with accents", environment=LATIN, prepare=_with_accents),
    Machine("a folder with accents, Chinese and an emoji", suffix=" Dončić 籃球 🏀"),
    Machine("no HOME", environment={"HOME": None}),
    Machine("a HOME that cannot be written", environment={"HOME": "/dev/null"}),
    Machine("temporary files on another file system", environment={"TMPDIR": "/dev/shm"}),
    Machine("a TMPDIR that does not exist", environment={"TMPDIR": "/nowhere"}),
    Machine("outputs/ on another file system", prepare=_link_elsewhere("outputs")),
    Machine("build/ on another file system", prepare=_link_elsewhere("build")),
    Machine("the command in a subfolder", folder="src/twinnet"),
    Machine("files with carriage returns", prepare=_with_carriage_returns),
    Machine("params.yaml with carriage returns, its stage", ("pipelines.params", "check"),
            prepare=_with_carriage_returns, left="build/params_checked.txt"),
    Machine("a terminal of 20 columns", environment={"COLUMNS": "20", "TERM": "dumb"}),
    Machine("GIT_DIR of another repository", environment={"GIT_DIR": "/nowhere"}),
    Machine("a PATH without git", environment={"PATH": "/nowhere"}),
    Machine("JAX on a GPU that is not there (JAX_PLATFORMS)", JAX, {"JAX_PLATFORMS": "cuda"},
            expected="JAX_PLATFORMS", left=""),
    Machine("a device that is not there", (*JAX, "device=gpu"), expected="device=gpu: expected a GPU", left=""),
    Machine("an odd keras.json", (*JAX, "engine=keras"),
            {"KERAS_HOME": "odd"}, _write("odd/keras.json", json.dumps({"floatx": "float16", "epsilon": 0.1}))),
    Machine("Python without its own files (-B), warnings as errors of ours",
            environment={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error::RuntimeWarning:twinnet"}),
)  # fmt: skip


def try_machine(machine: Machine, project: Path) -> Outcome:
    """Run the command in a fresh copy of the checkout at `project`."""
    for name in COPIED:
        source, target = ROOT / name, project / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    held = {name: (project / name).read_bytes() for name in ("conf/config.yaml", "dvc.yaml")}
    shutil.rmtree(project / "data", ignore_errors=True)
    players = project / "drawn"
    players.mkdir()
    write_players(players)
    shutil.move(players / "data", project / "data")
    assert all((project / name).read_bytes() == content for name, content in held.items())
    machine.prepare(project)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TWINNET_", "MLFLOW_", "DVC_"))
    }
    environment |= {"PYTHONPATH": f"{project / 'src'}{os.pathsep}{project}"}
    for name, value in machine.environment.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = str(project / value) if name == "KERAS_HOME" else value
    done = subprocess.run(
        [sys.executable, "-m", *machine.command], cwd=project / machine.folder, env=environment, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = done.stdout.decode(errors="replace").strip().splitlines() or [""]
    has_left = not machine.left or (project / machine.left).exists()
    if machine.expected:
        errors = [line for line in lines if line.startswith("error: ")]
        is_right = done.returncode != 0 and len(errors) == 1 and machine.expected in errors[0]
        answer = errors[0] if errors else lines[-1]
    else:
        is_right, answer = done.returncode == 0 and has_left, "ends well" if done.returncode == 0 else lines[-1]
    return Outcome(machine.tried, answer, is_right and not any("Traceback" in line for line in lines))


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'machine':62}what happened"]
    lines += [
        f"{outcome.tried[:61]:62}{'' if outcome.is_right else 'WRONG: '}{outcome.answer[:110]}" for outcome in outcomes
    ]
    return "\n".join([*lines, f"{len(outcomes)} machines, {sum(not o.is_right for o in outcomes)} answered wrongly"])


def main() -> int:
    begun, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        for number, machine in enumerate(MACHINES):
            project = Path(folder) / f"a checkout {number}{machine.suffix}"
            project.mkdir()
            outcomes.append(try_machine(machine, project))
    print(f"{table(outcomes)} in {time.monotonic() - begun:.0f} s")
    return int(not all(outcome.is_right for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
