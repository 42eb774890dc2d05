"""Odd machines and surroundings, and what the commands make of them: `make faults` prints the table, a test runs it.

Each row starts real processes in a copy of the checkout that has a small table of synthetic players.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import Outcome, report
from tests.processed import write_players

ROOT = Path(__file__).parents[1]
COPIED = ("conf", "src", "pipelines", "dvc.yaml", "params.yaml", ".dvcignore", ".gitattributes", "Makefile")
TRAIN = (
    "twinnet.train", "experiment=nba_scratch", "engine=scratch_numpy", "epochs=20", "tracking=none",
    "hydra.run.dir=outputs/tried",
)  # fmt: skip
JAX = tuple(word for word in TRAIN if not word.startswith("engine="))
TRACKED = tuple(word for word in TRAIN if word != "tracking=none")
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
    before: tuple[str, ...] = ()  # words before the command
    says: str = ""  # a part of one line of its output


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


def _with_leftovers_of_editors(project: Path) -> None:
    for folder, file in (("conf/experiment", "nba_scratch.yaml"), ("conf", "config.yaml"), ("src/twinnet", "train.py")):
        (project / folder / f".#{file}").symlink_to("somebody@host.1234:1")  # Emacs; it leads nowhere
        (project / folder / ".ipynb_checkpoints").mkdir()
        (project / folder / ".ipynb_checkpoints" / file).write_text("broken: [")


LATIN = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
MACHINES = (
    Machine("a backend of IPython (MPLBACKEND)", environment={"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    Machine("a backend that does not exist (MPLBACKEND)", environment={"MPLBACKEND": "nonsense"}),
    Machine("a locale that is not UTF-8, names with accents", environment=LATIN, prepare=_with_accents),
    Machine("a locale in Big5, names with accents", environment=LATIN | {"PYTHONIOENCODING": "big5"},
            prepare=_with_accents),
    Machine("a user without an entry in passwd, no HOME", TRACKED, {"HOME": None, "USER": None, "LOGNAME": None},
            before=("unshare", "-U", "--map-user=54321", "--map-group=54321"), left="mlflow.db"),
    Machine("leftovers of Emacs and Jupyter beside the files", prepare=_with_leftovers_of_editors),
    Machine("a copied checkout, whose environment runs the original", environment={"PYTHONPATH": None},
            says="warning: the code that runs is"),
    Machine("a moved checkout, whose environment lies elsewhere", ("make", "help"),
            prepare=_write(".venv/checkout", "/elsewhere"), says=".venv was made in /elsewhere; it is made again here",
            left="Makefile"),
    Machine("a folder with %20, tracked", TRACKED, suffix=" a%20b", left="mlartifacts/nba"),
    Machine("a folder with accents, Chinese and an emoji", suffix=" Dončić 籃球 🏀"),
    Machine("no HOME", environment={"HOME": None}),
    Machine("a HOME that cannot be written", environment={"HOME": "/dev/null"}),
    Machine("temporary files on another file system", environment={"TMPDIR": "/dev/shm"}),
    Machine("a TMPDIR that does not exist", environment={"TMPDIR": "/nowhere"}),
    Machine("outputs/ on another file system", prepare=_link_elsewhere("outputs")),
    Machine("a full disk for the run", tuple(word.replace("outputs/", "full/") for word in TRAIN),
            prepare=lambda project: (project / "full").mkdir(),
            before=("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=12k none full && exec "$@"', "sh"),
            expected="No space left on device; the run is complete in"),
    Machine("build/ on another file system", prepare=_link_elsewhere("build")),
    Machine("the command in a subfolder", folder="src/twinnet"),
    Machine("files with carriage returns", prepare=_with_carriage_returns),
    Machine("params.yaml with carriage returns, its stage", ("pipelines.params", "check"),
            prepare=_with_carriage_returns, left="build/datasets/nba.yaml"),
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
            shutil.copytree(source, target)
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
    words = machine.command if machine.command[0] == "make" else (sys.executable, "-m", *machine.command)
    if machine.before and subprocess.run([*machine.before, "true"], cwd=project, capture_output=True).returncode:
        return Outcome(machine.tried, f"not tried: `{machine.before[0]}` does not work here")
    done = subprocess.run(
        [*machine.before, *words], cwd=project / machine.folder, env=environment, timeout=300,
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
        warned = [line for line in lines if ("WARNING" in line and "not tracked" in line) or "warning: " in line]
        answer = "; ".join([answer, *warned, *([] if has_left else [f"no {machine.left}"])])
        is_right &= len(warned) <= bool(machine.says) and machine.says in "\n".join(lines)
    is_right &= not any("Traceback" in line for line in lines)
    return Outcome(machine.tried, answer, () if is_right else ("expected another end",))


def run_all(some: Sequence[Machine], folder: Path, processes: int = 2) -> list[Outcome]:
    """The outcome of each machine, in the order of `some`."""

    def run(number: int) -> Outcome:
        project = folder / f"a checkout {number}{some[number].suffix}"
        project.mkdir()
        return try_machine(some[number], project)

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(run, range(len(some))))


if __name__ == "__main__":
    sys.exit(report({"machines": lambda folder: run_all(MACHINES, folder)}))
