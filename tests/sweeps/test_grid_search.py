"""Sweeps: each job once, whatever is killed or fails, and what is left of them on the disk and in the store."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.utils import JobReturn, JobStatus

from tests.sweeps.commands import SMALL, Sweep, await_true, results, runs, store
from twinnet import train
from twinnet.core.schema import Tracking
from twinnet.sweeps import cache, expand
from twinnet.sweeps.dispatch import Dispatcher
from twinnet.sweeps.job import Status, SweepContext
from twinnet.sweeps.job_runner import run_job_locked
from twinnet.sweeps.progress import Progress
from twinnet.tracking import sweeps
from twinnet.tracking.process import this_process
from twinnet.tracking.store import connect

pytestmark = pytest.mark.xdist_group("sweeps")
DIVERGES = "1e+308"


def test_diverged_job_stops_no_other_and_names_its_command(sweep: Sweep, run_main: Sweep, sweep_project: Path) -> None:
    ended = sweep("seed=1,2", f"optimizer.learning_rate=0.1,{DIVERGES},0.01")
    assert ended.status == 1
    assert ended.counted() == {"finished": 4, "failed": 2}
    assert "4 of 6 jobs are finished (0 were before), 2 failed" in ended.out
    assert "best valid/loss: optimizer.learning_rate=0." in ended.out
    reported = [line for line in ended.out.splitlines() if line.startswith("failed: ")]
    assert len(reported) == 2
    assert "seed=1 optimizer.learning_rate=1e+308: the loss is no longer a finite number at epoch" in reported[0]

    table = pd.read_csv(ended.folder / "summary.csv")
    assert list(table["status"]) == ["finished", "failed", "finished"] * 2
    assert table["valid/loss"].notna().sum() == table["run_id"].notna().sum() == 4
    assert len(pd.read_csv(ended.folder / "seeds.csv")) == 2

    (parent,), children = runs(sweep_project)
    assert parent.info.status == "FAILED"
    assert parent.data.params == {"seed": "1, 2", "optimizer.learning_rate": f"0.1, {DIVERGES}, 0.01"}
    assert {run.data.tags[sweeps.PARENT] for run in children} == {parent.info.run_id}
    assert sorted(run.info.run_name for run in children if run.info.status == "FINISHED") == sorted(
        f"seed={seed} optimizer.learning_rate={rate}" for seed in (1, 2) for rate in (0.1, 0.01)
    )
    failed = [run for run in children if run.info.status == "FAILED"]
    assert ["no longer a finite number" in run.data.tags["reason"] for run in failed] == [True, True]
    artifacts = {file.path for file in store(sweep_project).client.list_artifacts(parent.info.run_id, "summary")}
    names = {"summary.csv", "seeds.csv", "parallel_coordinates.png", "effects.png"}
    (best,) = {file.parent for file in (sweep_project / cache.RESULTS).glob("*/figures/*.png")}  # the best run alone
    names |= {file.name for file in best.glob("*.png")}
    assert artifacts == {f"summary/{name}" for name in names}
    assert "valid/loss" in parent.data.metrics
    assert parent.data.tags["mlflow.note.content"].startswith(
        "**Best.** optimizer.learning_rate=0."
    )  # MLflow cuts its end
    assert parent.data.tags["failures"].count("alone: ") == 2

    command = shlex.split(reported[0].partition("alone: ")[2])
    assert command[:3] == ["python", "-m", "twinnet.train"]
    alone = run_main(train.main, *command[3:], "tracking=none")
    assert alone.status == 1
    assert "error: the loss is no longer a finite number" in alone.err


def test_trained_jobs_are_reused(sweep: Sweep, sweep_project: Path) -> None:
    assert sweep("seed=1,2", "+limits.epochs=10").status == 0
    first = results(sweep_project)
    again = sweep("seed=1,2", "epochs=10")  # another way to the same configurations
    assert (again.status, again.counted()) == (0, {"reused": 2})
    assert "2 of 2 jobs are finished (2 were before)" in again.out
    overlapping = sweep("seed=2,3", "epochs=10")
    assert (overlapping.status, overlapping.counted()) == (0, {"reused": 1, "finished": 1})
    assert {key: results(sweep_project)[key] for key in first} == first

    parents, children = runs(sweep_project)
    assert [parent.info.status for parent in parents] == ["FINISHED", "FINISHED"]
    assert {parent.info.run_name for parent in parents} == {"nba_scratch: sweep of seed"}
    assert sorted(child.info.run_name for child in children) == ["seed=1", "seed=2", "seed=3"]
    table = pd.read_csv(overlapping.folder / "summary.csv")
    assert set(table["run_id"]) == {child.info.run_id for child in children if child.info.run_name != "seed=1"}

    (reused,) = (child.info.run_id for child in children if child.info.run_name == "seed=2")
    assert sum(f"- [seed=2](#/runs/{reused})" in parent.data.tags["mlflow.note.content"] for parent in parents) == 2

    repeated = sweep("seed=1,2", "epochs=10", "resume=false", "tracking=none", "figures=true")
    assert repeated.counted() == {"finished": 2}
    assert all(results(sweep_project)[key] > when for key, when in first.items())
    assert all(any((sweep_project / cache.RESULTS / key / "figures").glob("*.png")) for key in first)


def test_results_of_other_machines_are_found_in_the_store(
    sweep: Sweep, sweep_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the follower: the leading process does without MLflow, which takes 3 s to import."""
    monkeypatch.delattr("twinnet.tracking.store.connect")
    assert sweep("seed=1,2").status == 0
    (sweep_project / "outputs").rename(sweep_project / "elsewhere")
    ended = sweep("seed=1,2,3")
    assert (ended.status, ended.counted()) == (0, {"reused": 2, "finished": 1})
    assert len(results(sweep_project)) == 1
    parents, children = runs(sweep_project)
    assert set(pd.read_csv(ended.folder / "summary.csv")["run_id"]) == {child.info.run_id for child in children}
    assert any("- [seed=1](#/runs/" in parent.data.tags["mlflow.note.content"] for parent in parents)


def test_job_started_twice_is_trained_once(sweep_project: Path, tmp_path: Path) -> None:
    """As if a cluster lost a node: its jobs are started again, and may still run there."""
    (job,), _ = expand.expand_jobs(sweep_project, ["experiment=nba_scratch", "engine=scratch_numpy", "epochs=20"])
    settings = {"resume": False, "fail_fast": False, "threads": 1, "swept": ()}
    context = SweepContext(sweep_project, tmp_path, Tracking(enabled=False), {}, None, **settings)
    first, second = (run_job_locked(job, context, tmp_path / place) for place in "ab")
    assert first.status is Status.finished
    assert first == second


def test_fail_fast_starts_no_further_job(sweep: Sweep, sweep_project: Path) -> None:
    ended = sweep("tracking=none", f"optimizer.learning_rate={DIVERGES},0.1,0.01", "fail_fast=true")
    assert (ended.status, ended.counted()) == (1, {"failed": 1, "stopped": 2})
    assert results(sweep_project) == {}
    ended = sweep("tracking=none", f"optimizer.learning_rate={DIVERGES},0.1,0.01")
    assert (ended.status, ended.counted()) == (1, {"failed": 1, "finished": 2})


def test_process_that_dies_stops_fail_fast(sweep_project: Path, tmp_path: Path) -> None:
    jobs, _ = expand.expand_jobs(sweep_project, [*SMALL, "seed=1,2"])
    settings = {"resume": False, "fail_fast": True, "threads": 1, "swept": ("seed",)}
    context = SweepContext(sweep_project, tmp_path, Tracking(enabled=False), {}, None, **settings)

    def launch(task: object, overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        if jobs[0].overrides in overrides:  # as joblib if the process of a job is killed
            context.start_marker(jobs[0].key).parent.mkdir(parents=True, exist_ok=True)
            context.start_marker(jobs[0].key).touch()
            raise RuntimeError("a process was terminated")
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=run_job_locked(jobs[1], context, tmp_path))]

    with Progress(context.results, {job.key: job for job in jobs}, "valid/loss") as progress:
        ended = Dispatcher(launch, "joblib", context, progress, None).run(jobs)
    assert [ended[job.key].status for job in jobs] == [Status.failed, Status.stopped]


def test_folder_of_an_earlier_sweep_changes_nothing(sweep: Sweep, sweep_project: Path) -> None:
    words = ["tracking=none", "fail_fast=true", f"hydra.sweep.dir={sweep_project}/again"]
    assert sweep(*words, f"optimizer.learning_rate={DIVERGES},0.1").counted() == {"failed": 1, "stopped": 1}
    ended = sweep(*words, "optimizer.learning_rate=0.1,0.01")
    assert (ended.status, ended.counted()) == (0, {"finished": 2})
    assert "2 of 2 jobs are finished (0 were before), after" in ended.out
    before = results(sweep_project)
    ended = sweep(*words, "optimizer.learning_rate=0.1,0.01", "resume=false")
    assert ended.counted() == {"finished": 2}
    assert all(when > before[key] for key, when in results(sweep_project).items())


def test_broken_launcher_is_one_line(sweep: Sweep, sweep_project: Path) -> None:
    ended = sweep("tracking=none", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0")
    assert ended.status == 1
    assert ended.err.startswith("error: hydra/launcher=joblib: ValueError: n_jobs == 0")
    assert "interrupted" not in ended.out


def kill(process: subprocess.Popen[str]) -> str:
    """With every process of its group, at once; what it said."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


@pytest.mark.slow
def test_killed_sweep_trains_only_missing_jobs(
    sweep: Sweep, start: Callable[..., subprocess.Popen[str]], sweep_project: Path
) -> None:
    words = ["experiment=nba_scratch", "engine=scratch_numpy", "seed=range(0,6)"]
    killed = start("twinnet.train", "-m", *words, "epochs=6000", "tracking=none")
    await_true(lambda: len(results(sweep_project)) >= 2, "two results", process=killed)
    kill(killed)
    before = results(sweep_project)
    assert 2 <= len(before) < 6

    ended = sweep(*words, "epochs=6000", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert ended.status == 0, ended.err
    assert ended.counted() == {"reused": len(before), "finished": 6 - len(before)}
    assert {key: results(sweep_project)[key] for key in before} == before
    (parent,), children = runs(sweep_project)
    assert parent.info.status == "FINISHED"
    assert sorted(run.info.run_name for run in children) == [f"seed={seed}" for seed in range(6)]
    assert {run.info.status for run in children} == {"FINISHED"}
    processes = {run.data.tags["twinnet.process"] for run in children if run.data.tags[sweeps.KEY] not in before}
    assert this_process() not in processes  # but those that joblib started


def test_killed_migration_leaves_no_half_made_store(tmp_path: Path) -> None:
    """Where a sweep is killed in its first seconds."""
    file = tmp_path / "mlflow.db"
    made = f"from twinnet.tracking.store import connect; connect('sqlite:///{file}')"
    process = subprocess.Popen([sys.executable, "-c", made], stdout=subprocess.PIPE, text=True, start_new_session=True)
    await_true(lambda: any(new.stat().st_size for new in tmp_path.glob("mlflow.db.new")), "begun", process=process)
    kill(process)
    assert not file.exists()
    assert list(connect(f"sqlite:///{file}").search("")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("ray", ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"]),
        ("submitit_local", []),
    ],
)
def test_launchers_of_the_extras(
    start: Callable[..., subprocess.Popen[str]], sweep_project: Path, launcher: str, words: list[str]
) -> None:
    pytest.importorskip(
        f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher", reason=f"needs the extra of {launcher}"
    )
    small = ["experiment=nba_scratch", "engine=scratch_numpy", "epochs=20", f"optimizer.learning_rate=0.1,{DIVERGES}"]
    process = start("twinnet.train", "-m", *small, "tracking=none", f"hydra/launcher={launcher}", *words)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    assert "1 of 2 jobs are finished (0 were before), 1 failed" in out, err
    assert "failed: optimizer.learning_rate=1e+308: the loss is no longer a finite number" in out
    (key,) = results(sweep_project)
    assert json.loads((sweep_project / cache.RESULTS / key / "metrics.json").read_text())["epochs"] == 20


def test_wrong_value_beside_a_sweep_is_one_line(run_main: Sweep) -> None:
    """Hydra composes what does not sweep before twinnet.sweeps sees it."""
    for words in (["seed=null"], ["seed=1,2", "epochs=many"]):
        ended = run_main(train.main, "-m", "experiment=nba_scratch", *words)
        assert ended.status == 1
        assert ended.err.startswith(f"error: {words[-1].partition('=')[0]}: expected ")
        assert len(ended.err.splitlines()) == 1


def test_overruled_value_is_reported_once_for_a_sweep(sweep: Sweep) -> None:
    ended = sweep("optimizer=momentum,gradient_descent", "seed=1,2", "tracking=none")
    lines = [line for line in ended.out.splitlines() if line.startswith("optimizer.learning_rate: 0.001")]
    assert [line.split(" of ")[2].split(";")[0] for line in lines] == [
        "optimizer=momentum",
        "optimizer=gradient_descent",
    ]
