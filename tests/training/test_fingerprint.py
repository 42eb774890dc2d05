"""The fingerprint of a training: what changes it, and what does not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from twinnet.core.schema import Experiment
from twinnet.training import fingerprint as module
from twinnet.training.fingerprint import code_folders, code_hash, fingerprint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose code is hashed."""
    copy = tmp_path / "twinnet"
    shutil.copytree(module.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    code_hash.cache_clear()
    yield copy
    code_hash.cache_clear()


@pytest.mark.parametrize(
    ("room", "engines"),
    [
        ("core", {"scratch", "keras"}),
        ("training", {"scratch", "keras"}),
        ("engines/scratch", {"scratch"}),
        ("engines/keras", {"keras"}),
        ("data", set()),
        ("figures", set()),
        ("compare", set()),
        ("tracking", set()),
        ("sweeps", set()),
    ],
)
def test_edit_changes_the_trainings_that_use_the_room(room: str, engines: set[str], package: Path) -> None:
    before = {engine: code_hash(engine) for engine in ("scratch", "keras")}
    file = next(file for file in sorted((package / room).rglob("*.py")))
    file.write_text(file.read_text() + "# a comment\n")
    code_hash.cache_clear()
    assert {engine for engine in before if code_hash(engine) != before[engine]} == engines


@pytest.mark.parametrize("engine", ["scratch", "keras"])
def test_folders_are_those_of_the_stage(root: Path, engine: str) -> None:
    stage = (root / "dvc.yaml").read_text().partition("  train:\n")[2].partition("  compare:\n")[0]
    for folder in code_folders(engine):
        assert f"- src/twinnet/{folder.replace(engine, '${item.engine.kind}')}\n" in stage


def test_settings_that_change_no_result_are_left_out(compose: Callable[..., Experiment]) -> None:
    def of(*overrides: str) -> str:
        return fingerprint(compose("nba_scratch", *overrides), "digest")

    same = ("description=other", "engine.threads=1", "checkpoint_seconds=5", "profile.epochs=100000")
    assert {of(), *map(of, same)} == {of()}
    others = ("seed=1", "epochs=5", "model.hidden_units=[5]", "engine=scratch_numpy", "profile.samples=9")
    assert len({of(), *map(of, others)}) == len(others) + 1
    assert fingerprint(compose("nba_scratch"), "other data") != of()
