"""Real processes: killed, interrupted, and many at once."""

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from twinnet.core.schema import Tracking
from twinnet.tracking.live import LiveRun, LiveRuns
from twinnet.tracking.process import dead_processes, is_running, this_process
from twinnet.tracking.store import Store, connect
from twinnet.training.run import Run

LONG = "epochs=100000"  # minutes, as it sleeps after each chunk of 100 epochs
PATIENCE = 400  # seconds for what takes a few, on a machine that is slow and busy
TRAIN = """
    import sys, time
    from pathlib import Path
    from twinnet.core import config
    from twinnet.core.schema import Tracking
    from twinnet.core.stage import stage
    from twinnet.tracking.live import tracker
    from twinnet.training.experiment import train

    conf, root, name, *overrides = sys.argv[1:]
    overrides = ["experiment=nba_scratch", "engine=scratch_numpy", *overrides]
    experiment = config.experiment(config.compose(Path(conf), "train", overrides))
    live = tracker(Tracking(live_seconds=0.2), root=Path(root))
    progressed = live.progressed
    if experiment.epochs > 1000:  # it leaves the machine to the follower
        live.progressed = lambda history: (progressed(history), time.sleep(0.3))
    with stage():
        train(experiment, Path(root) / "runs" / name, root=Path(root), tracker=live)
"""


@pytest.fixture
def launch(root: Path, project: Path) -> Callable[..., subprocess.Popen[str]]:
    """`launch("a", "epochs=50")`: a training in a process group of its own, its run in runs/a."""

    def launched(name: str, *overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TRAIN), str(root), str(project), name, *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        )

    return launched


def store(root: Path) -> Store:
    return connect(f"sqlite:///{root}/mlflow.db")


def await_curves(root: Path, process: subprocess.Popen[str], seed: int = 0) -> str:
    """The id of the running run of a seed, once it has points."""
    opened, until = store(root), time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        for run in opened.search("attributes.status = 'RUNNING'"):
            if run.data.metrics and run.data.params["seed"] == str(seed):
                return str(run.info.run_id)
        time.sleep(0.1)
    process.kill()
    found = [(run.info.status, run.data.tags.get("reason")) for run in opened.search("")]
    pytest.fail(f"no running run with points appeared, but {found}; the process said:\n{process.communicate()[0]}")


def status(root: Path, run_id: str) -> str:
    return str(store(root).client.get_run(run_id).info.status)


def await_status(root: Path, run_id: str, wanted: str) -> None:
    until = time.monotonic() + PATIENCE
    while status(root, run_id) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert status(root, run_id) == wanted


def follower_of(root: Path) -> psutil.Process:
    (heartbeat,) = (root / "build" / "live").glob(".*.follower")
    return psutil.Process(int(heartbeat.read_text().split()[1]))


def test_ended_trainings_leave_a_consistent_store(launch: Callable[..., subprocess.Popen[str]], project: Path) -> None:
    """Ctrl-C, SIGTERM and kill -9 of trainings that one follower sends, which then ends."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    processes = [launch(f"run_{seed}", LONG, f"seed={seed}") for seed in range(len(signals))]
    runs = [await_curves(project, process, seed) for seed, process in enumerate(processes)]
    follower = follower_of(project)
    for process, sent in zip(processes, signals, strict=True):
        os.killpg(process.pid, sent)
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1, -signal.SIGKILL], outputs
    for run_id, reason in zip(runs, ("interrupted", "interrupted", "process died"), strict=True):
        await_status(project, run_id, "KILLED")
        run = store(project).client.get_run(run_id)
        assert reason in run.data.tags["reason"]
        assert run.data.metrics
    follower.wait(timeout=PATIENCE)
    assert not list((project / "runs").glob("run_*"))


def test_run_of_killed_processes_is_marked_by_the_next_one(
    launch: Callable[..., subprocess.Popen[str]], train: Callable[..., Run], project: Path
) -> None:
    process = launch("a", LONG)
    run_id = await_curves(project, process)
    follower_of(project).kill()
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.communicate()
    assert status(project, run_id) == "RUNNING"
    train()
    assert status(project, run_id) == "KILLED"
    reason = store(project).client.get_run(run_id).data.tags["reason"]
    assert "process died" in reason
    assert Counter(run.info.status for run in store(project).search("")) == {"KILLED": 1, "FINISHED": 1}


def test_process_is_not_one_that_has_its_number() -> None:
    me = this_process()
    host, pid, started = me.rsplit(" ", 2)
    assert is_running(me)
    assert not is_running(f"{host} {pid} {started}0")
    assert not is_running(f"{host} {2**22 + 1} {started}")


def test_process_of_another_host_is_judged_by_its_lock(project: Path) -> None:
    """Another host may have this one's name, boot (as containers) and numbers; its folder may be mounted here."""
    locks, opened = project / "locks", store(project)
    mine, (host, pid, start) = this_process(), this_process().rsplit(" ", 2)
    boot, namespace, ticks = start.split(":")
    foreign = [f"{host} {pid} {boot}:1:{ticks}", f"{host} {pid} 0{boot[1:]}:{namespace}:{ticks}"]
    running = [opened.client.create_run("0", tags={"twinnet.process": name}).info.run_id for name in [mine, *foreign]]
    assert opened.mark_dead_runs(locks, dead_processes(locks)) == []  # nobody knows
    held = [FileLock(locks / f"{name}.lock") for name in foreign]
    locks.mkdir()
    for lock in held:
        lock.acquire()
    assert opened.mark_dead_runs(locks, dead_processes(locks)) == []
    assert dead_processes(locks) == []
    for lock in held:
        lock.release()  # as the system does if the process dies, or its host
    assert set(dead_processes(locks)) == {*foreign}
    assert set(opened.mark_dead_runs(locks, dead_processes(locks))) == {*running[1:]}
    assert status(project, running[0]) == "RUNNING"


def test_run_of_a_host_that_died_is_marked_by_another_one(train: Callable[..., Run], project: Path) -> None:
    """Both have the checkout mounted: the other one's follower goes on with what the dead one left."""
    other = re.sub(r":\d+:(\d+)$", r":1:\1", this_process())
    runs = LiveRuns(project)
    live = LiveRun.create(runs, Tracking())
    info = train(settings=Tracking(enabled=False)).info
    live.write("owner.json", live.owner | {"process": other})
    live.write("record.json", {"info": asdict(info), "tags": {}})
    lock = runs.locks / f"{other}.lock"
    with FileLock(lock):
        train("seed=2")
        assert live.folder.exists()
        assert not LiveRun(live.folder).is_ended
    train("seed=3")
    assert Counter(run.info.status for run in store(project).search("")) == {"KILLED": 1, "FINISHED": 2}
    assert not live.folder.exists()


STORM = """
    import os, sys
    from pathlib import Path
    import mlflow.pyfunc.model, mlflow.store.tracking.sqlalchemy_store  # once, before the processes part
    from twinnet.tracking import log_run
    from twinnet.tracking.curves import thin_table
    from twinnet.tracking.process import this_process
    from twinnet.tracking.store import connect
    from twinnet.training.run import Run

    folder, directory, processes = sys.argv[1:]
    os.nice(15)  # the tests beside this one go on
    run = Run.read(Path(directory))
    children = []
    for _ in range(int(processes)):
        pid = os.fork()
        if pid == 0:
            store = connect(f"sqlite:///{folder}/new/mlflow.db")
            run_id = log_run.create(store, run.info, {}, this_process(), log_run.open_experiment(store, run.info))
            log_run.describe(store, run_id, run.info)
            log_run.send_points(store, run_id, thin_table(run.history, run.info.epochs)[:10])
            log_run.finish(store, run_id, run, run.info, 10)
            os._exit(0)
        children.append(pid)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1]]
    sys.exit(len(failed))
"""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("processes", [8, pytest.param(24, marks=pytest.mark.exhaustive)])
def test_processes_at_once_on_a_new_store_all_finish(processes: int, train: Callable[..., Run], project: Path) -> None:
    """The store alone, at its worst: no process is held back by its import of MLflow."""
    run = train()
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            textwrap.dedent(STORM),
            str(project),
            str(run.directory),
            str(processes),
        ],
        capture_output=True,
        text=True,
        timeout=1150,
        env={**os.environ, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    runs = list(store(project / "new").search(""))
    assert Counter(found.info.status for found in runs) == {"FINISHED": processes}
    assert {found.data.tags["twinnet.result"] for found in runs} == {run.content_hash}
    for found in (runs[0], runs[-1]):
        assert len(store(project / "new").client.get_metric_history(found.info.run_id, "valid/loss")) == 30


@pytest.mark.exhaustive  # minutes, and 48 processes
@pytest.mark.timeout(1800)
def test_24_trainings_at_once_on_a_new_store_all_finish(
    launch: Callable[..., subprocess.Popen[str]], project: Path
) -> None:
    (project / "mlflow.db").unlink()
    processes = [launch(f"run_{seed}", "epochs=50", f"seed={seed}") for seed in range(24)]
    outputs = [process.communicate(timeout=1700)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 24, outputs
    assert Counter(run.info.status for run in store(project).search("")) == {"FINISHED": 24}
