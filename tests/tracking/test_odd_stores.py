"""One odd run, store or name never blocks the others, and `publish` ends in time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tracking.faults import cases
from twinnet.core.errors import DataError
from twinnet.core.schema import Tracking
from twinnet.tracking import description, live, sweeps
from twinnet.tracking import publish as publishing
from twinnet.tracking.log_run import NAME
from twinnet.tracking.publish import publish
from twinnet.tracking.store import StoreError, connect, foreign_artifacts, tracking_uri
from twinnet.training.run import Run

UNTRACKED = Tracking(enabled=False)
DAMAGES = {
    "metrics": ("metrics.json", lambda text: text.replace('"seconds": ', '"seconds": "long", "was": ')),
    "record": ("record.json", lambda text: json.dumps(json.loads(text) | {"config": {}})),
    "history": ("history.csv", lambda text: text.replace("\n1,", "\none,")),
}


def finished(root: Path) -> list[Any]:
    return list(connect(f"sqlite:///{root}/mlflow.db").search(""))


def test_search_reads_every_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinnet.tracking.store.PAGE", 2)
    client = connect(f"sqlite:///{project}/mlflow.db").client
    made = [client.create_run("0", start_time=start).info.run_id for start in (3, 3, 1, 2, 2)]
    found = [run.info.run_id for run in finished(project)]
    assert found[0] == made[2]
    assert sorted(found) == sorted(made)


def test_damaged_runs_are_named_and_others_sent(train: Callable[..., Run], project: Path) -> None:
    run = train(settings=UNTRACKED)
    for name, (file, damage) in DAMAGES.items():
        copy = shutil.copytree(run.directory, project / "runs" / name)
        (copy / file).write_text(damage((copy / file).read_text()))
    for _ in range(2):
        with pytest.raises(DataError) as raised:
            publish(project / "runs", root=project)
        for name, (file, _damage) in DAMAGES.items():
            assert f"runs/{name}/{file}: expected" in str(raised.value)
        assert [found.info.status for found in finished(project)] == ["FINISHED"]


def test_run_that_is_being_emptied_is_skipped(
    train: Callable[..., Run], project: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DVC does before it runs a stage: one file after the other, the last while `publish` waits a moment."""
    run = train(settings=UNTRACKED)
    (run.directory / "config.yaml").unlink()
    monkeypatch.setattr(publishing, "time", SimpleNamespace(sleep=lambda _: shutil.rmtree(run.directory)))
    publish(project / "runs", root=project)
    assert "nba_scratch is skipped: another process is replacing it" in caplog.text
    assert "delete the folder" not in caplog.text


def test_run_that_dvc_writes_is_skipped(
    train: Callable[..., Run], project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DVC's own lock says so for as long as the stage runs; one that a killed DVC has left says nothing."""
    run = train(settings=UNTRACKED)
    (run.directory / "config.yaml").unlink()
    (project / ".dvc" / "tmp").mkdir(parents=True)

    def hold(pid: int) -> None:
        locks = {"write": {str(run.directory): {"pid": pid, "cmd": "dvc repro"}}, "read": {}}
        (project / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(locks))

    hold(os.getpid())
    assert publish(project / "runs", root=project).unsent == ()
    assert "nba_scratch is skipped: another process is replacing it" in caplog.text
    hold(2**22 + 1)  # above the largest id that Linux gives
    with pytest.raises(DataError, match=r"config.yaml: expected"):
        publish(project / "runs", root=project)


def test_run_of_links_is_sent(train: Callable[..., Run], project: Path) -> None:
    """As DVC checks it out with `cache.type=symlink`."""
    run = train(settings=UNTRACKED)
    cache = project / "cache"
    cache.mkdir()
    for number, file in enumerate(path for path in sorted(run.directory.rglob("*")) if path.is_file()):
        file.rename(cache / str(number))
        file.symlink_to(cache / str(number))
    assert publish(project / "runs", root=project).sent == ("nba_scratch",)
    (found,) = finished(project)
    client = connect(f"sqlite:///{project}/mlflow.db").client
    assert "predictions.npz" in {file.path for file in client.list_artifacts(found.info.run_id)}
    figures = {file.path for file in client.list_artifacts(found.info.run_id, "figures")}
    assert figures == {f"figures/{figure.name}" for figure in run.figures} != set()
    assert client.get_logged_model(found.outputs.model_outputs[0].model_id).status == "READY"


def test_experiment_deleted_in_the_ui_is_restored(train: Callable[..., Run], project: Path) -> None:
    train("seed=1")
    client = connect(f"sqlite:///{project}/mlflow.db").client
    client.delete_experiment(client.get_experiment_by_name("nba").experiment_id)
    train("seed=2")
    assert client.get_experiment_by_name("nba").lifecycle_stage == "active"
    assert "FINISHED" in {found.info.status for found in finished(project)}


def test_long_name_is_whole_in_a_tag(train: Callable[..., Run], project: Path) -> None:
    name = " ".join(f"optimizer.learning_rate={number}" for number in range(20))
    train(tags={"mlflow.runName": name})
    (found,) = finished(project)
    assert len(found.info.run_name) == 250
    assert name.startswith(found.info.run_name.removesuffix("..."))
    assert found.data.tags[NAME] == name


def test_regression_has_an_experiment_of_its_own() -> None:
    names = [description.experiment_name({"data": {"name": "nba", "task": task}}) for task in ("regression", "binary")]
    assert names == ["nba_regression", "nba"]
    assert all("the data set nba;" in description.experiment(name) for name in names)


@pytest.mark.parametrize("folder", ["", "notebooks", "copy"])
def test_relative_store_lies_in_the_checkout(tiny_project: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """From the root, from a folder below, and in the copy that `dvc exp run --temp` makes."""
    place = tiny_project / folder
    place.mkdir(exist_ok=True)
    if folder == "copy":
        shutil.copytree(tiny_project / "conf", place / "conf")
        shutil.copy(tiny_project / "dvc.yaml", place)
        monkeypatch.setenv("DVC_ROOT", str(tiny_project))
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert tracking_uri() == f"sqlite:///{tiny_project}/mine.db"


def test_store_of_another_checkout_is_named(
    train: Callable[..., Run], project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train()
    client = connect(f"sqlite:///{project}/mlflow.db").client
    client.create_experiment("mine", (project.parent / "mine").as_uri())  # by a user, who may keep it anywhere
    client.create_experiment("also mine")
    assert foreign_artifacts(f"sqlite:///{project}/mlflow.db") == ""
    copy = Path(shutil.copytree(project, project.parent / "copy", ignore=shutil.ignore_patterns("build")))
    publish(copy / "runs", root=copy)
    assert f"comes from another checkout: its files go to {(project / 'mlartifacts').as_uri()}/nba" in caplog.text


@pytest.mark.parametrize("file", ["build", "build/processes"])
def test_unwritable_build_is_one_line(
    train: Callable[..., Run],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    file: str,
) -> None:
    train(settings=UNTRACKED)
    shutil.rmtree(project / "build", ignore_errors=True)
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_bytes(b"")
    monkeypatch.setenv("DVC_ROOT", str(project))
    caplog.clear()
    reason = "build/live: expected a folder to write to; received "
    with live.keep_follower(Tracking()), pytest.raises(StoreError, match=reason):
        publish(project / "runs")
    assert live.tracker(Tracking()) is None
    assert sweeps.sync_children(Tracking(), None, []) == {}
    assert [reason in line for line in caplog.messages] == [True, True]


def test_database_that_hangs_costs_no_more_than_patience(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of PostgreSQL, too; an own file may take long on a busy machine."""
    monkeypatch.setattr(live.LiveRuns, "start_follower", lambda runs, settings: None)
    limits = []
    monkeypatch.setattr(live, "await_follower", lambda *arguments: limits.append(arguments[-1]()))
    for uri in ("postgresql://me@database/mlflow", f"sqlite:///{project}/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = live.LiveTracker(Tracking(), {}, project)
        tracker.live.write(live.STATE, {})
        tracker.is_started = True
        tracker.failed(KeyboardInterrupt())
    assert limits[0] <= Tracking().patience_seconds < limits[1]


def test_odd_stores_are_many_and_different() -> None:
    tried = [case.tried for case in cases()]
    assert len(set(tried)) == len(tried) >= 40


QUICK = ("429", "one byte a second", "without an end", "a folder", "is held", "full disk", "newer MLflow", "in the UI")


@pytest.mark.parametrize("words", [QUICK, pytest.param((), marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_odd_stores_get_one_line_in_time(root: Path, words: tuple[str, ...]) -> None:
    """In a process without threads, since the rows are forked from it; `make faults` prints all of them."""
    command = [sys.executable, "-m", "tests.tracking.faults", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
