"""Which stages an edit makes stale: one line in each room, and the answer of `dvc status`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import yaml
from dvc.repo import Repo

from tests.pipelines.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]  # DVC looks at the project once for each room

ALWAYS = {"publish"}
DATA = {"download", "preprocess", "card"}
# Rooms -> the stages that an edit of them makes stale; a training is named by its engine.
ROOMS = {
    "core": {"params", "train scratch", "train keras", "compare"} | DATA,
    "training": {"train scratch", "train keras", "compare"},
    "engines/scratch": {"train scratch"},
    "engines/keras": {"train keras"},
    "data/formats": DATA,
    "data/download": {"download", "card"},
    "figures": {"card", "compare"},
    "compare": {"compare"},
    "tracking sweeps predict teaching": set(),
}


@pytest.fixture(scope="module")
def mine(copy: Callable[[], Project]) -> Project:
    return copy()


@pytest.fixture(scope="module")
def engines(mine: Project) -> dict[str, str]:
    """Experiment -> its engine."""
    experiments = yaml.safe_load((mine.folder / "params.yaml").read_text())["experiments"]
    return {name: experiment["engine"]["kind"] for name, experiment in experiments.items()}


def stale(project: Project, engines: dict[str, str]) -> set[str]:
    """The stages that `dvc status` names, those of an engine's trainings as one; all of a kind, or none."""
    with Repo(str(project.folder)) as repo:  # as `dvc status` does, in this process
        names = {address.rpartition(":")[2] for address in repo.status()}
    for engine in ("scratch", "keras"):
        trainings = {f"train@{name}" for name in engines if engines[name] == engine}
        if trainings <= names:
            names = names - trainings | {f"train {engine}"}
    sets = {name.partition("@")[2] for name in names if name.startswith("preprocess@")}
    for stage in DATA:
        if (sets and {f"{stage}@{name}" for name in sets} <= names) or not sets:
            names = {stage if name.startswith(f"{stage}@") else name for name in names}
    return names - ALWAYS


@pytest.mark.parametrize("rooms", ROOMS)
def test_edit_of_a_room_makes_its_stages_stale(rooms: str, mine: Project, engines: dict[str, str]) -> None:
    files = [sorted((mine.folder / "src/twinnet" / room).glob("*.py"))[-1] for room in rooms.split()]
    texts = {file: file.read_text() for file in files}
    try:
        for file, text in texts.items():
            file.write_text(text + "# a comment\n")
        assert stale(mine, engines) == ROOMS[rooms]
    finally:
        for file, text in texts.items():
            file.write_text(text)


@contextmanager
def edited(project: Project, name: str, old: str, new: str) -> Iterator[None]:
    """A file of conf/ with an edit, composed by `make params`; then the bytes of before."""
    file, parts = project.folder / "conf" / name, sorted(project.folder.glob("build/*/*.yaml"))
    before = {path: path.read_bytes() for path in (file, *parts, *project.folder.glob("*.yaml"))}
    lock = (project.folder / "dvc.lock").read_bytes()
    try:
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        project.run("make", "-o", ".venv/runtime", "params", f"S={' '.join(project.overrides())}")
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)
        (project.folder / "dvc.lock").write_bytes(lock)


def test_one_learning_rate_retrains_one_experiment(mine: Project, engines: dict[str, str]) -> None:
    with edited(mine, "experiment/nba_scratch.yaml", "learning_rate: 0.001", "learning_rate: 0.002"):
        assert stale(mine, engines) == {"params", "train@nba_scratch", "compare"}


def test_description_retrains_nothing(mine: Project, engines: dict[str, str]) -> None:
    with edited(mine, "experiment/nba_scratch.yaml", "description: ", "description: Described again; "):
        assert stale(mine, engines) == {"params"}
        mine.run("dvc", "repro", "-s", "params")
        assert stale(mine, engines) == set()


def test_removed_experiment_leaves_the_leaderboard(mine: Project, engines: dict[str, str]) -> None:
    with edited(mine, "config.yaml", "  - experiment@experiments.nba_points: nba_points\n", ""):
        others = {name: engine for name, engine in engines.items() if name != "nba_points"}
        assert stale(mine, others) == {"params", "compare"}


def test_equal_downloads_train_nothing(mine: Project) -> None:
    file = mine.folder / "src/twinnet/data/download/sources.py"
    file.write_text(file.read_text() + "# a comment\n")
    ran = mine.ran(mine.run("dvc", "repro", "preprocess@nba").stdout)
    assert "download@nba" in ran
    with Repo(str(mine.folder)) as repo:
        names = {address.rpartition(":")[2] for address in repo.status()}
    assert not {name for name in names if name.startswith("train@") or name == "preprocess@nba"}


def test_value_that_cannot_be_trained_removes_nothing(mine: Project) -> None:
    done = mine.run("dvc", "exp", "run", "-S", "experiments.nba_scratch.epochs=0", check=False)
    assert done.returncode != 0
    assert "error: experiments.nba_scratch: epochs: expected 1 to 100000000; received 0" in done.stdout
    assert (mine.folder / "runs/nba_scratch/metrics.json").exists()
