"""The follower: one for all trainings of a checkout; killed, stopped or late, it loses nothing."""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from sqlalchemy import event

from tests.data.faults import server
from twinnet.core.schema import Tracking
from twinnet.tracking import follow, live, sweeps
from twinnet.tracking.process import this_process
from twinnet.tracking.publish import publish
from twinnet.tracking.store import connect
from twinnet.training.run import Run

QUICK = Tracking(timeout_seconds=2, patience_seconds=1.0)
CLOSED = "http://127.0.0.1:9"  # nobody listens


def statuses(root: Path) -> Counter[str]:
    return Counter(run.info.status for run in connect(f"sqlite:///{root}/mlflow.db").search(""))


def follower(root: Path) -> psutil.Process:
    (heartbeat,) = (root / "build" / "live").glob(".*.follower")
    return psutil.Process(int(heartbeat.read_text().split()[1]))


def waiting(root: Path) -> list[str]:
    return [path.name for path in (root / "build" / "live").iterdir() if path.is_dir()]


@contextmanager
def broken_store(root: Path) -> Iterator[None]:
    """A folder in the place of mlflow.db."""
    file = root / "mlflow.db"
    file.rename(root / "mlflow.away")
    file.mkdir()
    yield
    file.rmdir()
    (root / "mlflow.away").rename(file)


@pytest.mark.parametrize(("status", "reason"), [("401 Unauthorized", "(401)"), ("403 Forbidden", "(403)")])
def test_refused_follower_makes_way_for_another_password(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    status: str, reason: str,
) -> None:  # fmt: skip
    """Else it would answer the next training, too, for as long as this one may wait."""
    with server.serving() as refusing:
        refusing.otherwise = server.refused(status)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", refusing.address)
        train(settings=Tracking(patience_seconds=60.0))
        assert f"refuses the user {reason}; MLFLOW_TRACKING_USERNAME" in caplog.text
        until = time.monotonic() + follow.LINGER_SECONDS / 2
        while live.LiveRuns(project).has_follower():
            assert time.monotonic() < until
            time.sleep(0.05)


def test_follower_makes_way_for_another_user(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else their run is sent by the user of the training before; whoever publishes it sends it as themselves."""
    run = train(settings=Tracking(enabled=False))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "member")
    lingering = follow.Follower(live.LiveRuns(project))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    folder = live.LiveRun.create(live.LiveRuns(project), Tracking(patience_seconds=0.0))
    folder.write(live.RECORD, {"info": asdict(run.info), "tags": {}})
    folder.write(live.END, live.finished_end(run))
    with pytest.raises(SystemExit):
        lingering.follow()
    assert not folder.has(live.STATE)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "member")
    publish(project / "runs", root=project)
    assert statuses(project) == {"FINISHED": 1}
    assert waiting(project) == []


def test_short_trainings_share_one_follower(train: Callable[..., Run], project: Path) -> None:
    followers = set()
    for seed in range(3):
        train(f"seed={seed}")
        followers.add(follower(project).pid)
    assert len(followers) == 1
    assert statuses(project) == {"FINISHED": 3}
    assert waiting(project) == []


def test_run_is_in_the_store_whole_or_not_at_all(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent by a follower in this process, which cannot write the files of the first run, and commits once."""
    monkeypatch.setattr(follow, "LINGER_SECONDS", 0.1)
    runs, commits = live.LiveRuns(project), list[object]()
    engine = connect(f"sqlite:///{project}/mlflow.db").client._tracking_client.store.engine
    event.listen(engine, "commit", commits.append)

    def send(run: Run) -> live.LiveRun:
        folder = live.LiveRun.create(runs, Tracking(patience_seconds=0.0))
        folder.write(live.RECORD, {"info": asdict(run.info), "tags": {}})
        folder.write(live.END, live.finished_end(run))
        follow.Follower(runs).follow()
        return folder

    first, second = (train(f"seed={seed}", settings=Tracking(enabled=False)) for seed in (1, 2))
    (project / "mlartifacts").write_bytes(b"")
    assert "mlartifacts" in (send(first).read(live.PROBLEM) or {})["reason"]
    assert statuses(project) == {}
    (project / "mlartifacts").unlink()
    follow.Follower(runs).follow()
    assert statuses(project) == {"FINISHED": 1}
    commits.clear()
    send(second)
    assert statuses(project) == {"FINISHED": 2}
    assert len(commits) < 10  # MLflow alone: 29


def test_heartbeat_outlives_a_write_that_fails(project: Path) -> None:
    """As on a full disk; without it nobody can end a follower that hangs."""
    follower = follow.Follower(live.LiveRuns(project))
    follower.runs.heartbeat = project / "missing" / "heartbeat"
    threading.Thread(target=follower._watch, daemon=True).start()
    time.sleep(0.2)
    follower.runs.heartbeat.parent.mkdir()
    until = time.monotonic() + 30
    while not follower.runs.heartbeat.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_monitor_ends_with_a_run_that_the_store_has(train: Callable[..., Run], project: Path) -> None:
    run, runs = train(), live.LiveRuns(project)
    folder = live.LiveRun.create(runs, Tracking(), has_reader=True)
    folder.write(live.RECORD, {"info": asdict(run.info), "tags": {}})
    folder.write(live.END, live.finished_end(run))
    follower = follow.Follower(runs)
    monitor = follower.monitors[folder.folder.name] = Mock()
    follower._try(folder)
    assert (folder.read(live.DONE) or {})["is_new"] is False
    monitor.finish.assert_called_once_with()


def test_follower_stays_while_a_sweep_trains(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.setattr(live.LiveRuns, "start_follower", lambda runs, settings: None)
    runs = live.LiveRuns(project)
    with live.keep_follower(Tracking()):
        assert follow.Follower(runs).is_active()
    assert not follow.Follower(runs).is_active()
    assert waiting(project) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_lost_follower_is_replaced(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(live, "STUCK_SECONDS", 3.0)
    train("seed=1")  # its follower lingers

    def at(history: Any) -> None:
        if history.epochs == 20:
            follower(project).send_signal(how)

    train("seed=2", at=at)
    assert statuses(project) == {"FINISHED": 2}
    for run in connect(f"sqlite:///{project}/mlflow.db").search(""):
        points = connect(f"sqlite:///{project}/mlflow.db").client.get_metric_history(run.info.run_id, "valid/loss")
        assert [point.step for point in points] == list(range(1, 31))


def test_single_run_is_sent_by_the_next_publish(
    train: Callable[..., Run], project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run outside runs/, made while the store was down: the same address answers later."""
    with broken_store(project):
        train(directory=project / "outputs" / "single", settings=QUICK)
    assert "expected a SQLite file; received a folder" in caplog.text
    assert "`python -m pipelines.publish` sends it" in caplog.text
    assert len(waiting(project)) == 1
    assert publish(project / "runs", root=project).sent == ("single",)
    assert statuses(project) == {"FINISHED": 1}
    assert waiting(project) == []


def test_waiting_run_gets_figures_drawn_meanwhile(train: Callable[..., Run], project: Path) -> None:
    """A DVC stage trains while the store is down; `compare` draws the figures, and `publish` follows."""
    with broken_store(project):
        run = train(settings=QUICK)
    figures = project / "reports" / "runs" / run.name
    figures.parent.mkdir(parents=True)
    (run.directory / "figures").rename(figures)
    publish(project / "runs", root=project)
    store = connect(f"sqlite:///{project}/mlflow.db")
    (found,) = store.search("attributes.status = 'FINISHED'")
    assert store.client.list_artifacts(found.info.run_id, "figures")


def test_run_whose_files_were_replaced_is_never_finished(train: Callable[..., Run], project: Path) -> None:
    with broken_store(project):
        train("seed=1", settings=QUICK)
    train("seed=2", settings=Tracking(enabled=False))
    publish(project / "runs", root=project)
    assert statuses(project) == {"FAILED": 1, "FINISHED": 1}
    (failed,) = connect(f"sqlite:///{project}/mlflow.db").search("attributes.status = 'FAILED'")
    assert "a later run has replaced the files" in failed.data.tags["reason"]


def test_runs_for_another_store_are_named(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED)
    train(directory=project / "outputs" / "a", settings=QUICK)
    live.LiveRun.create(live.LiveRuns(project), QUICK, has_reader=True).write(live.END, {})  # a call is not a run
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with caplog.at_level(logging.WARNING):
        publish(project / "runs", root=project)
    assert f"1 run in build/live/ waits for another store, {CLOSED}; MLFLOW_TRACKING_URI chooses it" in caplog.text


JOB = {sweeps.KIND: "sweep", sweeps.KEY: "job", sweeps.LEADER: this_process()}


def test_run_that_another_machine_has_trained_again_stays_killed(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine was cut off, and the sweep gave it up; back again, it sends the end of its run."""
    store = connect(f"sqlite:///{project}/mlflow.db")
    train(name="nba_scratch", tags=JOB)

    def give_up(history: Any) -> None:
        if history.epochs == 10:
            until = time.monotonic() + 60
            while not (found := list(store.search("attributes.status = 'RUNNING'"))) and time.monotonic() < until:
                time.sleep(0.05)
            sweeps._give_up_lost(store, "sweep", this_process(), str(project), [])
            assert store.client.get_run(found[0].info.run_id).info.status == "KILLED"

    late = {"settings": Tracking(live_seconds=0.0), "at": give_up}
    train("seed=2", tags=JOB, directory=project / "runs" / "late", **late)
    assert statuses(project) == {"FINISHED": 1, "KILLED": 1}
    train("seed=3", tags=JOB | {sweeps.KEY: "other"}, directory=project / "runs" / "other", **late)
    assert statuses(project) == {"FINISHED": 2, "KILLED": 1}  # nobody else has trained it: nothing is lost
    assert waiting(project) == []


def test_sweep_leaves_one_run_of_a_job_of_another_machine(train: Callable[..., Run], project: Path) -> None:
    store = connect(f"sqlite:///{project}/mlflow.db")
    runs = [  # of one key, told apart by their seconds
        train(f"seed={seed}", f"epochs={epochs}", tags=JOB, directory=project / "runs" / str(seed))
        for seed, epochs in ((1, 10), (2, 1000))
    ]
    for leader in (this_process(), "other 1 boot:1:1"):
        store.client.create_run("0", tags=JOB | {sweeps.LEADER: leader})
    unsent = sweeps.SweepRun("job", None, JOB, 1e6)
    assert sweeps.sync_children(QUICK, None, [unsent], root=project) == {}
    assert statuses(project) == {"FINISHED": 2, "RUNNING": 2}  # the run that is meant may never arrive
    child = sweeps.SweepRun("job", None, JOB, runs[1].metrics["seconds"])
    ids = sweeps.sync_children(QUICK, None, [child], root=project)
    assert store.client.get_run(ids["job"]).data.params["seed"] == "2"
    sweeps.give_up_lost(QUICK, "sweep", root=project)
    assert statuses(project) == {"FINISHED": 1, "KILLED": 1, "RUNNING": 1}  # the last of a leader that may run


@pytest.mark.parametrize("address", ["http://mlflow.example:5000", "sqlite:///mlflow.db"])
def test_job_that_two_machines_finish_has_one_run_in_a_server(
    train: Callable[..., Run], project: Path, address: str
) -> None:
    """One of them was cut off, and sends the run first; the other one has sent nothing of it before."""
    store = connect(f"sqlite:///{project}/mlflow.db")
    train(tags=JOB)
    (first,) = store.search("attributes.status = 'FINISHED'")
    found = follow.Follower._trained_elsewhere(replace(store, address=address), JOB, {}, is_retry=False)
    assert found == (first.info.run_id if address.startswith("http") else None)
