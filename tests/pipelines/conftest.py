"""One project, made by `make smoke` once for all tests of the pipeline."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.project import Project, make_smoke


@pytest.fixture(scope="session")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Made by `make smoke`, without a store; tests that change it work on a `copy`."""
    return make_smoke(root, tmp_path_factory.mktemp("smoke") / "project")


@pytest.fixture(scope="session")
def copy(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """`copy()`: a copy of the made project under git, free to be changed."""

    def copied() -> Project:
        folder = tmp_path_factory.mktemp("copy") / "project"
        shutil.copytree(project.folder, folder, symlinks=True)
        mine = Project(folder, project.output)
        for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
            mine.run("git", "config", key, value)
        mine.commit()
        return mine

    return copied
