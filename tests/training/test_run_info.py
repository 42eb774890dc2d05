"""What a run's record says about its code and its command."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from twinnet.core.secrets import HIDDEN
from twinnet.training.run_info import _code, _command

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    def ran(*arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    ran("init", "-q")
    return ran


def test_code_is_the_commit_and_whether_files_differ(git: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("a")
    (tmp_path / "code.py").write_text("a")
    git("add", "-A")
    git("commit", "-qm", "first")
    clean = {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "data.csv").write_text("new, and not of the code")
    (tmp_path / "dvc.lock").write_text("runs write it")
    assert _code(tmp_path) == clean
    (tmp_path / "code.py").write_text("b")
    assert _code(tmp_path) == clean | {"dirty": True}
    git("add", "-A")
    assert _code(tmp_path)["dirty"]


def test_no_commit_and_no_repository_are_no_code(git: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a")
    git("add", "-A")
    assert _code(tmp_path) == {}
    assert _code(tmp_path / "missing") == {}


def test_command_can_be_pasted_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "description=my own run", "+uri=http://me:hunter2@host"])
    words = shlex.split(_command())
    assert words[-2:] == ["description=my own run", f"+uri=http://{HIDDEN}@host"]
