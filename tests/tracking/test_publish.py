"""One finished run for each result on disk, whichever of the two was there first."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from twinnet.core.errors import DataError
from twinnet.core.schema import Tracking
from twinnet.tracking import log_run
from twinnet.tracking.live import NUMBERS, OWNER, LiveRun, LiveRuns
from twinnet.tracking.process import this_process
from twinnet.tracking.publish import PublishResult, _figures, publish
from twinnet.tracking.store import Store, connect, stored_results
from twinnet.training.run import Run


def store(root: Path) -> Store:
    return connect(f"sqlite:///{root}/mlflow.db")


def finished(root: Path) -> dict[str, list[Any]]:
    """Finished runs by their result."""
    runs: dict[str, list[Any]] = {}
    for run in store(root).search("attributes.status = 'FINISHED'"):
        runs.setdefault(run.data.tags["twinnet.result"], []).append(run)
    return runs


def test_tracked_run_is_not_published_again(train: Callable[..., Run], project: Path) -> None:
    train()
    assert publish(project / "runs", root=project).present == ("nba_scratch",)
    assert [len(runs) for runs in finished(project).values()] == [1]


def test_publish_of_stored_runs_starts_no_follower(train: Callable[..., Run], project: Path) -> None:
    """Importing MLflow takes most of a `dvc repro` with nothing to do; a store that is replaced is sent everything."""
    run, uri = train(), f"sqlite:///{project}/mlflow.db"
    assert stored_results(uri) == {run.content_hash: bool(run.figures)}
    number = next(NUMBERS)  # of the folder that the next run on its way to the store would have
    assert publish(project / "runs", root=project).present == ("nba_scratch",)
    assert next(NUMBERS) == number + 1
    _draw(project)
    publish(project / "runs", root=project)
    assert stored_results(uri) == {run.content_hash: True}
    ((found,),) = finished(project).values()

    client = store(project).client
    client.create_run(found.info.experiment_id)  # RUNNING; its process may be dead
    assert stored_results(uri) == {}
    client.delete_experiment(found.info.experiment_id)
    assert stored_results(uri) == {}
    (project / "mlflow.db").unlink()
    assert stored_results(uri) == {}
    assert publish(project / "runs", root=project).sent == ("nba_scratch",)


def _draw(project: Path, name: str = "learning_curves.png") -> None:
    """Leave a figure where `compare` draws those of a run."""
    figure = project / "reports" / "runs" / "nba_scratch" / name
    figure.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(figure)


def test_dvc_experiment_sends_its_own_figures(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc exp run --temp` trains and compares in a copy; the store and the workspace's figures lie in DVC_ROOT."""
    run = train(settings=Tracking(enabled=False))
    shutil.rmtree(run.directory / "figures")
    copy = project / ".dvc" / "tmp" / "exps" / "a"
    shutil.move(project / "runs", copy / "runs")
    _draw(project)
    _draw(copy, "confusion_matrix.png")
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(copy)
    assert publish(Path("runs")).sent == ("nba_scratch",)
    ((found,),) = finished(project).values()
    figures = store(project).client.list_artifacts(found.info.run_id, "figures")
    assert [figure.path for figure in figures] == ["figures/confusion_matrix.png"]


def test_run_at_the_top_of_a_disk_has_no_figures() -> None:
    """As `hydra.run.dir=/out` in a container leaves it."""
    assert _figures(Run(Path("/no such run"))) == []


def test_results_restored_by_dvc_are_published_once(train: Callable[..., Run], project: Path) -> None:
    """After a clone and `dvc pull`, and where tracking was off: the store knows none of them."""
    untracked = train("seed=1", directory=project / "runs" / "untracked", settings=Tracking(enabled=False))
    tracked = train("seed=2", directory=project / "runs" / "tracked")
    live = finished(project)[tracked.content_hash][0]
    fresh = project / "clone"
    shutil.copytree(project / "runs", fresh / "runs")
    assert publish(fresh / "runs", root=fresh).sent == ("tracked", "untracked")
    first = finished(fresh)
    assert publish(fresh / "runs", root=fresh).present == ("tracked", "untracked")
    assert finished(fresh).keys() == first.keys() == {run.content_hash for run in (untracked, tracked)}
    assert all(len(runs) == 1 for runs in finished(fresh).values())

    (published,) = first[tracked.content_hash]
    for key in ("metrics", "params"):
        assert getattr(published.data, key) == getattr(live.data, key)
    same = {key for key, value in live.data.tags.items() if published.data.tags.get(key) == value}
    assert live.data.tags.keys() - same == {"twinnet.process", "mlflow.note.content"} - same
    assert (published.info.start_time, published.info.end_time) == (live.info.start_time, live.info.end_time)
    assert [i.dataset for i in published.inputs.dataset_inputs] == [i.dataset for i in live.inputs.dataset_inputs]


def test_result_sent_twice_at_once_is_kept_once(train: Callable[..., Run], project: Path) -> None:
    run, again = train(), store(project)
    log_run.finish(again, _create(again, run, this_process()), run, run.info)
    assert [len(runs) for runs in finished(project).values()] == [2]
    publish(project / "runs", root=project)
    assert [len(runs) for runs in finished(project).values()] == [1]


def test_killed_publish_leaves_nothing_running(train: Callable[..., Run], project: Path) -> None:
    """As if the process had died between making a run and finishing it."""
    run = train(settings=Tracking(enabled=False))
    unfinished = _create(store(project), run, _dead())
    assert publish(project / "runs", root=project).sent == ("nba_scratch",)
    killed = store(project).client.get_run(unfinished)
    assert killed.info.status == "KILLED"
    assert "no longer running" in killed.data.tags["reason"]


def _create(opened: Store, run: Run, process: str) -> str:
    return log_run.create(opened, run.info, {}, process, log_run.open_experiment(opened, run.info))


def _dead() -> str:
    return this_process().replace(f" {os.getpid()} ", " 1 ")  # process 1 runs, but did not start then


def test_training_killed_before_it_trained_is_no_run(project: Path) -> None:
    live = LiveRun.create(LiveRuns(project), Tracking())
    live.write(OWNER, live.owner | {"process": _dead()})
    assert publish(project / "runs", root=project) == PublishResult()


def test_broken_directory_is_reported_after_others_are_sent(train: Callable[..., Run], project: Path) -> None:
    train(settings=Tracking(enabled=False))
    broken = project / "runs" / "broken"
    shutil.copytree(project / "runs" / "nba_scratch", broken)
    (broken / "predictions.npz").unlink()
    with pytest.raises(DataError, match=r"runs/broken/predictions.npz: expected predictions.npz; found none"):
        publish(project / "runs", root=project)
    assert len(finished(project)) == 1


def test_refusing_store_is_one_line_and_no_error(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings=Tracking(enabled=False))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter22@127.0.0.1:9")
    caplog.clear()
    begun = time.monotonic()
    with caplog.at_level(logging.INFO):
        assert publish(project / "runs", root=project).unsent == ("nba_scratch",)
    assert time.monotonic() - begun < 60  # it does not try for ever
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("twinnet")]
    assert "127.0.0.1" in line
    assert "not published: nba_scratch" in line
    assert "hunter22" not in caplog.text
    assert "\n" not in line


def test_nothing_to_publish_needs_no_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert publish(project / "runs", root=project) == PublishResult()
