"""One project, made by `make smoke` once for all tests of the pipeline."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.project import STAND_INS, UNTRACKED, Project, environment


@pytest.fixture(scope="session")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Made by `make smoke`, without a store; tests that change it work on a `copy`."""
    folder = tmp_path_factory.mktemp("smoke") / "project"
    made = subprocess.run(
        ["make", "-o", ".venv/runtime", "smoke", f"SMOKE={folder}", f"S={' '.join([*STAND_INS, UNTRACKED])}"],
        cwd=root, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    return Project(folder, made.stdout)


@pytest.fixture(scope="session")
def copy(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """`copy()`: a copy of the made project under git, free to be changed."""

    def copied() -> Project:
        folder = tmp_path_factory.mktemp("copy") / "project"
        shutil.copytree(project.folder, folder, symlinks=True)
        mine = Project(folder, project.output)
        for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
            mine.run("git", "config", key, value)
        mine.run("git", "add", "-A")
        mine.run("git", "commit", "-qm", "made")
        return mine

    return copied
