"""Sweeps on SLURM: each job once, whatever becomes of jobs, nodes, the controller and the leading process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run

from tests.cluster.slurm import NODES, Cluster, slurm_cluster
from tests.sweeps.commands import CommandResult, await_true, results, runs
from twinnet.tracking import sweeps
from twinnet.tracking.store import PROCESS

WORDS = ["experiment=nba_scratch", "engine=scratch_numpy", "hydra/launcher=submitit_slurm"]
WORDS += [f"hydra.launcher.{setting}" for setting in ("cpus_per_task=1", "mem_gb=1", "timeout_min=5")]
SHORT = "epochs=20"
LONG = "epochs=10000"  # 2 s
DIVERGES = "1e+308"
SECONDS = 600.0  # for a sweep on a machine that is busy


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture
def project(tiny_project: Path, migrated: Path, root: Path, cluster: Cluster) -> Iterator[Path]:
    """A small checkout with data to train on and a store without runs; the queue is empty before and after."""
    shutil.copytree(root / "conf", tiny_project / "conf", dirs_exist_ok=True)
    shutil.copy(migrated, tiny_project / "mlflow.db")
    yield tiny_project
    cluster.clear()


@pytest.fixture
def start(project: Path, cluster: Cluster) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start("seed=1,2")`: a sweep led by a process in a group of its own, which ends with the test."""
    processes = []

    def started(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "twinnet.train", "-m", *WORDS, *words],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | cluster.environment | {"MPLBACKEND": "Agg"},
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.wait()


def finish(process: subprocess.Popen[str]) -> CommandResult:
    out, err = process.communicate(timeout=SECONDS)
    return CommandResult(process.returncode, out, err)


def n_trained(project: Path) -> int:
    """Return how many jobs of all sweeps were trained rather than found."""
    files = (project / "outputs" / "sweeps").glob("*/state/results/*.json")
    return sum(json.loads(file.read_text())["status"] == "finished" for file in files)


def checkpoints(project: Path) -> list[Path]:
    return list((project / "build" / "checkpoints").glob("*/state.npz"))


def host(run: Run) -> str:
    return str(run.data.tags[PROCESS].split()[0])


def check_every_job_once(project: Path, number: int = 12) -> list[Run]:
    """Check that the store has one finished child for each job and none that runs; return all children."""
    (parent,), children = runs(project)
    assert parent.info.status == "FINISHED"
    finished = [run for run in children if run.info.status == "FINISHED"]
    assert {run.data.tags[sweeps.KEY] for run in finished} == results(project).keys()
    assert len(finished) == len(results(project)) == number
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
    assert {run.data.tags[sweeps.PARENT] for run in children} == {parent.info.run_id}
    return children


def test_array_trains_on_every_node(
    start: Callable[..., subprocess.Popen[str]], project: Path, tried: Callable[..., None]
) -> None:
    """SLURM: an array of 12 jobs on two nodes."""
    ended = finish(start(SHORT, "seed=range(0,12)"))
    assert (ended.status, ended.err) == (0, "")
    assert ended.counted() == {"finished": 12}
    children = check_every_job_once(project)
    assert sorted(run.info.run_name for run in children) == sorted(f"seed={seed}" for seed in range(12))
    hosts = Counter(map(host, children))
    assert hosts.keys() == set(NODES)
    again = finish(start(SHORT, "seed=range(0,12)"))
    assert (again.status, again.counted()) == (0, {"reused": 12})
    tried(f"{' and '.join(f'{number} on {node}' for node, number in hosts.items())}; the same again trains none")


def test_diverged_job_stops_no_other(
    start: Callable[..., subprocess.Popen[str]], project: Path, tried: Callable[..., None]
) -> None:
    """SLURM: one job of 12 diverges."""
    rates = ",".join([DIVERGES, *(f"0.{rate:02}" for rate in range(1, 12))])
    ended = finish(start(SHORT, f"optimizer.learning_rate={rates}"))
    assert (ended.status, ended.err) == (1, "")
    assert ended.counted() == {"finished": 11, "failed": 1}
    (line,) = [line for line in ended.out.splitlines() if line.startswith("failed: ")]
    assert line.startswith(f"failed: optimizer.learning_rate={DIVERGES}: the loss is no longer a finite number")
    (parent,), children = runs(project)
    assert parent.info.status == "FAILED"
    assert Counter(run.info.status for run in children) == {"FINISHED": 11, "FAILED": 1}
    (failed,) = [run for run in children if run.info.status == "FAILED"]
    assert "no longer a finite number" in failed.data.tags["reason"]
    assert {run.data.tags[sweeps.PARENT] for run in children} == {parent.info.run_id}
    tried("11 finished, one FAILED with its reason; exit status 1")


def test_cancelled_job_is_trained_by_the_same_command(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: scancel of one job of 12 in its training."""
    words = [f"epochs=60000,{','.join(map(str, range(20, 31)))}", "checkpoint_seconds=1"]
    sweep = start(*words)
    await_true(
        lambda: checkpoints(project) and len(results(project)) >= 3, "a checkpoint, three results", SECONDS, sweep
    )
    (longest,) = [job for job in cluster.jobs("RUNNING") if job.endswith("_0")]
    cluster.run("scancel", longest)
    ended = finish(sweep)
    assert (ended.status, ended.err) == (1, "")
    assert ended.counted() == {"finished": 11, "failed": 1}
    (line,) = [line for line in ended.out.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: epochs=60000: it was cancelled (scancel)")
    (parent,), children = runs(project)
    assert parent.info.status == "FAILED"
    assert Counter(run.info.status for run in children) == {"FINISHED": 11, "KILLED": 1}
    before = results(project)

    again = finish(start(*words))
    assert (again.status, again.counted()) == (0, {"reused": 11, "finished": 1})
    assert before.items() <= results(project).items()
    check_every_job_once(project)
    tried("11 finished, one failed as cancelled, its run KILLED; the same command trained that one")


def test_jobs_of_lost_node_are_trained_again(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: one of two nodes loses power and comes back."""
    sweep = start(LONG, "seed=range(0,12)")
    await_true(lambda: len(results(project)) >= 3, "three results", SECONDS, sweep)
    await_true(lambda: cluster.run("squeue", "-h", "-t", "RUNNING", "-w", "n2"), "jobs on n2", SECONDS, sweep)
    cluster.kill("n2")
    cluster.update_node("n2", "down")
    before = results(project)
    await_true(lambda: len(results(project)) >= len(before) + 2, "two more results", SECONDS, sweep)
    cluster.start_node("n2")
    cluster.update_node("n2", "resume")
    ended = finish(sweep)
    assert ended.status == 0, ended
    assert ended.counted() == {"finished": 12}
    assert before.items() <= results(project).items()
    lost = cluster.run("scontrol", "show", "job").count("Restarts=1")
    assert lost
    children = check_every_job_once(project)
    killed = [run for run in children if run.info.status == "KILLED"]
    assert {host(run) for run in killed} <= {"n2"}
    ended = f"{len(killed)} run{'s' * (len(killed) != 1)} KILLED"
    tried(f"{lost} jobs of it ran again, by SLURM, {ended}; 12 finished, each once")


def test_killed_leader_is_started_again(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: kill -9 of the leading process, twice, while its jobs go on."""
    words = [LONG, "seed=range(0,12)"]
    for number in (2, 6):
        sweep = start(*words)
        await_true(lambda number=number: len(results(project)) >= number, "its results", SECONDS, sweep)
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    before = results(project)
    again = finish(start(*words))
    assert again.status == 0, again
    assert before.items() <= results(project).items()
    check_every_job_once(project)
    cluster.clear()
    assert n_trained(project) == 12
    after = results(project)
    last = finish(start(*words))
    assert (last.status, last.counted()) == (0, {"reused": 12})
    assert results(project) == after
    check_every_job_once(project)
    tried(f"after 2 and {len(before)} of 12 results; the third start and the jobs of the others trained the rest")


def test_interrupted_leader_cancels_its_jobs(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: Ctrl-C of the leading process."""
    sweep = start("epochs=6000000", "seed=1,2,3")
    await_true(lambda: len(runs(project)[1]) == 3, "three runs", SECONDS, sweep)
    sweep.send_signal(signal.SIGINT)
    ended = finish(sweep)
    assert ended.status == 130
    assert "interrupted; the same command trains only what is missing" in ended.out
    assert not cluster.jobs()
    (parent,), children = runs(project)
    assert [run.info.status for run in (parent, *children)] == ["KILLED"] * 4
    tried("its 3 jobs left the queue, their runs and the parent are KILLED")


def test_killed_process_of_a_job_is_tried_once_more(
    start: Callable[..., subprocess.Popen[str]], project: Path, tried: Callable[..., None]
) -> None:
    """SLURM: kill -9 of the process of a job."""
    sweep = start(LONG, "seed=1")
    await_true(lambda: job_processes(project), "the process of the job", SECONDS, sweep)
    (process,) = job_processes(project)
    process.kill()
    ended = finish(sweep)
    assert (ended.status, ended.counted()) == (0, {"finished": 1}), ended
    check_every_job_once(project, 1)
    tried("it was submitted once more, and finished")


def job_processes(project: Path) -> list[psutil.Process]:
    """Return the Python processes of the jobs that run."""
    commands = [(process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    jobs = [process for process, words in commands if words[1:4] == ["-u", "-m", "submitit.core._submit"]]
    return [process for process in jobs if process.info["cmdline"][4].startswith(str(project))]


def test_sweep_outlives_the_controller(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: slurmctld is killed while jobs run, and comes back."""
    sweep = start("epochs=60000", "seed=range(0,6)")
    await_true(lambda: len(cluster.jobs("RUNNING")) == 4, "four jobs that run", SECONDS, sweep)
    cluster.await_saved()  # SLURM forgets what it started in the last seconds before it is killed
    cluster.kill("controller")
    assert not results(project)
    await_true(lambda: results(project), "a result", SECONDS, sweep)
    cluster.start_controller()
    ended = finish(sweep)
    assert (ended.status, ended.counted()) == (0, {"finished": 6}), ended
    check_every_job_once(project, 6)
    tried("what ran went on, and the rest began when it was back: 6 finished")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["partition=nope"], "sbatch refuses the jobs: invalid partition specified: nope"),
        (["cpus_per_task=64"], "SLURM never starts these: PartitionConfig"),
        (["timeout_min=120"], "SLURM never starts these: PartitionTimeLimit"),
        (["mem_gb=64"], "sbatch refuses the jobs: Memory specification can not be satisfied"),
        (["timeout_min=1"], "hydra.launcher.timeout_min=1: expected more than signal_delay_s"),
    ],
)
def test_jobs_that_cannot_run_are_one_line(
    start: Callable[..., subprocess.Popen[str]], cluster: Cluster, tried: Callable[..., None],
    words: list[str], expected: str,
) -> None:  # fmt: skip
    """SLURM: jobs that no node can run."""
    ended = finish(start(SHORT, "seed=1,2", "tracking=none", *(f"hydra.launcher.{word}" for word in words)))
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("error: hydra")
    assert expected in line
    assert not cluster.jobs()
    tried(f"`{words[0]}`: one line, exit status 1, nothing is left in the queue")


def test_controller_that_does_not_answer_is_one_line(
    start: Callable[..., subprocess.Popen[str]], cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: slurmctld does not answer when a sweep starts."""
    cluster.kill("controller")
    try:
        ended = finish(start(SHORT, "seed=1,2", "tracking=none"))
    finally:
        cluster.start_controller()
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("error: hydra/launcher=submitit_slurm: expected a SLURM controller that answers")
    assert ended.out == ""
    tried("one line, exit status 1, before anything begins")


BRIEF = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45"]  # at most 15 s


def test_time_limit_is_reported(
    start: Callable[..., subprocess.Popen[str]], project: Path, tried: Callable[..., None]
) -> None:
    """SLURM: a job is longer than its time limit."""
    ended = finish(start("epochs=10000000", "seed=1", *BRIEF))
    assert (ended.status, ended.err) == (1, "")
    (line,) = [line for line in ended.out.splitlines() if line.startswith("failed: ")]
    assert "its time limit ended; use a larger hydra.launcher.timeout_min" in line
    _, (child,) = runs(project)
    assert child.info.status == "FAILED"
    assert "its time limit ended" in child.data.tags["reason"]
    tried("the job failed and says so, its run too; exit status 1")


def test_job_resumes_after_its_time_limit(
    start: Callable[..., subprocess.Popen[str]], project: Path, cluster: Cluster, tried: Callable[..., None]
) -> None:
    """SLURM: the same with max_num_timeout=1."""
    sweep = start("epochs=200000", "seed=1", "checkpoint_seconds=1", "hydra.launcher.max_num_timeout=1")
    await_true(lambda: checkpoints(project), "a checkpoint", SECONDS, sweep)
    cluster.run("scancel", "--signal=USR2", *cluster.jobs("RUNNING"))  # as SLURM does before the limit
    ended = finish(sweep)
    assert (ended.status, ended.counted()) == (0, {"finished": 1}), ended
    children = check_every_job_once(project, 1)
    (log,) = (project / "outputs" / "sweeps").glob("*/0/train.log")
    resumed = log.read_text().count("resumes from the checkpoint after epoch")
    assert resumed == 1
    assert Counter(run.info.status for run in children)["FINISHED"] == 1
    tried("the job went back into the queue, resumed from its checkpoint, and finished")
