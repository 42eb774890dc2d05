"""A project on small settings and synthetic data, as the tests of the pipeline handle it."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

STAND_INS = [f"datasets.{name}.source=synthetic" for name in ("nba", "fashion_mnist", "mnist")] + [
    f"datasets.{name}.arrays.{array}.shape=[{shape}]"  # a tenth: each stage hashes and copies what it reads
    for name in ("fashion_mnist", "mnist")
    for array, shape in (("X_train", "6000,28,28"), ("y_train", "6000"), ("X_test", "1000,28,28"), ("y_test", "1000"))
]

UNTRACKED = "tracking.enabled=false"  # a store costs each training a process that imports MLflow


@dataclass(frozen=True)
class Project:
    """A copy of the project in which every stage has run."""

    folder: Path
    output: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; both streams come back as stdout."""
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0 or not check, done.stdout
        return done

    def commit(self) -> None:
        """Put all that DVC does not hold under git."""
        for command in (("add", "-A"), ("commit", "-qm", "made")):
            self.run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *command)

    def overrides(self, *, tracked: bool = False) -> list[str]:
        """Those that params.yaml was composed with; with `tracked` but the one that leaves tracking out."""
        composed = shlex.split((self.folder / "params.yaml").read_text().splitlines()[0].partition("Overrides:")[2])
        return [override for override in composed if not (tracked and override == UNTRACKED)]

    def ran(self, output: str) -> set[str]:
        """The stages that a `dvc repro` with this output has run."""
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def make_smoke(root: Path, folder: Path) -> Project:
    """Return the project that `make smoke` makes of the checkout `root`, without a store."""
    made = subprocess.run(
        ["make", "-o", ".venv/runtime", "smoke", f"SMOKE={folder}", f"S={' '.join([*STAND_INS, UNTRACKED])}"],
        cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    return Project(folder, made.stdout)


def environment() -> dict[str, str]:
    """The surroundings without mirror and tracking server; the tools of this environment first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TWINNET_", "MLFLOW_", "DVC_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}
