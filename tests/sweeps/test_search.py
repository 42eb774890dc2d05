"""Searches with Optuna: pruned, killed and resumed, shared by processes; and every mistake is one line."""

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import PASSWORD, cluster
from tests.sweeps.commands import SMALL, Sweep, await_true, runs
from twinnet import search
from twinnet.core import config
from twinnet.core.errors import ConfigError

optuna = pytest.importorskip("optuna", reason="needs the extra `optuna`")
study = pytest.importorskip("twinnet.sweeps.study")
pytestmark = pytest.mark.xdist_group("searches")
GRID = """
# @package _global_
defaults: [{override /experiment: nba_scratch}, _self_]
search:
  study: grid
  sampler: grid
  pruner: none
  space:
    optimizer.learning_rate: {kind: choice, choices: [0.1, 0.01, 1e308]}
    seed: {kind: integer, low: 0, high: 1}
"""


def trials(sweep_project: Path, study: str) -> list:
    return optuna.load_study(study_name=study, storage=f"sqlite:///{sweep_project}/optuna.db").trials


def open_study(sweep_project: Path, *words: str) -> optuna.Study:
    composed = config.compose(sweep_project, "search", [*SMALL, *words])
    settings, experiment = search.search_settings(composed), config.experiment(composed)
    return study.open_study(settings, composed.objective, experiment, sweep_project)


def states(sweep_project: Path) -> Counter[str]:
    """Of the trials; read without Optuna, which is slow to open its database."""
    try:
        with contextlib.closing(sqlite3.connect(sweep_project / "optuna.db")) as database:
            return Counter(state for (state,) in database.execute("SELECT state FROM trials"))
    except sqlite3.OperationalError:  # not made yet
        return Counter()


def test_grid_is_searched_once(
    run_main: Sweep, sweep_project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        logging.getLogger("optuna"), "propagate", True
    )  # its handler writes to the stderr of its import
    (sweep_project / "conf" / "search" / "grid.yaml").write_text(GRID.lstrip())
    ended = run_main(search.main, "search=grid", *SMALL)
    assert ended.status == 1  # two of six diverge
    assert not [record for record in caplog.records if record.exc_info], "a traceback of each failed trial"
    assert ended.out.startswith("search grid: 0 of 6 trials have ended")
    assert ended.counted() == {"finished": 4, "failed": 2}
    assert "best valid/loss: optimizer.learning_rate=0." in ended.out
    assert ended.out.count("failed: optimizer.learning_rate=1e+308 seed=") == 2
    assert ended.out.count("alone: python -m twinnet.train experiment=nba_scratch engine=scratch_numpy") == 2
    assert len({tuple(trial.params.items()) for trial in trials(sweep_project, "grid")}) == 6
    (parent,), children = runs(sweep_project)
    assert Counter(child.info.status for child in children) == {"FINISHED": 4, "FAILED": 2}
    assert parent.data.params["seed"] == "0 to 1"
    assert parent.info.status == "FAILED"
    again = run_main(search.main, "search=grid", *SMALL)
    assert again.out.startswith("search grid: 6 of 6 trials have ended")
    assert again.counted() == {}
    assert len(runs(sweep_project)[1]) == 6


def test_trial_worse_than_others_is_pruned(run_search: Sweep, sweep_project: Path) -> None:
    ended = run_search("search.trials=8", "search.sampler=random")
    assert ended.status == 0, ended.err
    assert ended.counted() == {"finished": states(sweep_project)["COMPLETE"], "pruned": states(sweep_project)["PRUNED"]}
    assert states(sweep_project)["PRUNED"]
    children = runs(sweep_project)[1]
    assert Counter(child.info.status for child in children)["KILLED"] == states(sweep_project)["PRUNED"]
    assert all("pruned at epoch" in child.data.tags["reason"] for child in children if child.info.status == "KILLED")


@pytest.mark.slow
def test_killed_search_is_resumed_by_two_processes(
    run_search: Sweep, start: Callable[..., subprocess.Popen[str]], sweep_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tracking=none", "search.trials=4", "search.pruner=none", "search.storage=sqlite:///optuna.db"]
    process = start("twinnet.search", "search=nba", "engine=scratch_numpy", "epochs=6000", *words)
    await_true(
        lambda: states(sweep_project).keys() >= {"COMPLETE", "RUNNING"}, "a trial after the first", process=process
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = states(sweep_project)["COMPLETE"]

    monkeypatch.setattr("twinnet.sweeps.study.GRACE", 6)  # seconds without a sign of life, which it gives every 5
    ended = run_search("epochs=6000", *words, "search.processes=2")
    assert ended.status == 0, ended.err
    assert ended.out.startswith(f"search nba: {before} of 4 trials have ended")
    after = trials(sweep_project, "nba")
    assert states(sweep_project) == {"COMPLETE": 4, "FAIL": 1}
    (dead,) = (trial for trial in after if trial.state.name == "FAIL")
    retried = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number
    assert [retried(trial) for trial in after].count(dead.number) == 1
    assert "its process died; it is tried again" in ended.out


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_processes_that_start_together_draw_different_trials(sweep_project: Path, tmp_path: Path) -> None:
    first, second = (open_study(sweep_project, f"search.storage=sqlite:///{tmp_path}/optuna.db") for _ in range(2))
    drawn = [each.ask().suggest_float("rate", 0, 1) for each in (first, second)]
    assert drawn[0] != drawn[1]
    assert first.user_attrs == second.user_attrs


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_study_keeps_its_objective_and_experiment(sweep_project: Path, tmp_path: Path) -> None:
    storage = f"search.storage=sqlite:///{tmp_path}/optuna.db"
    open_study(sweep_project, storage)
    for word, expected in (("objective=valid/accuracy", "objective=valid/loss"), ("epochs=30", "epochs=20")):
        message = f"search.study=nba: expected {expected}, with which it began; received {word.partition('=')[2]}; "
        with pytest.raises(ConfigError, match=f"^{message}use another search.study$"):
            open_study(sweep_project, storage, word)
    free = ["search.trials=9", "search.processes=2", "device=cpu", "name=probe", "optimizer.learning_rate=0.5"]
    open_study(sweep_project, storage, *free)


OWN = "# @package _global_\nsearch: {study: own, pruner: none, sampler: random, space: %s}\n"


def test_trial_that_cannot_be_trained_has_failed(run_main: Sweep, sweep_project: Path) -> None:
    """Each value fits the configuration; together they do not."""
    space = "{engine.backend: {kind: choice, choices: [jax]}, engine.dtype: {kind: choice, choices: [float64]}}"
    (sweep_project / "conf" / "search" / "own.yaml").write_text(OWN % space)
    words = ["search=own", "experiment=nba_keras", "engine.backend=tensorflow", "engine.dtype=float32"]
    ended = run_main(search.main, *words, "search.trials=2", "tracking=none")
    assert (ended.status, ended.err, ended.counted()) == (1, "", {"failed": 2})
    assert ended.out.count("engine.dtype=float64: expected float32") == 4, "of each trial, and in the summary"
    assert "alone: python -m twinnet.train experiment=nba_keras" in ended.out


def test_error_of_the_program_fails_one_trial(run_search: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinnet.training.experiment.prepare", lambda *_: 1 / 0)
    ended = run_search("search.trials=2", "tracking=none")
    assert (ended.status, ended.counted()) == (1, {"failed": 2})
    assert ended.out.count("ZeroDivisionError: division by zero") == 4


def test_other_choices_of_a_study_are_one_line(run_main: Sweep, sweep_project: Path) -> None:
    for choices, trials, status in (("[1, 2]", 1, 0), ("[1, 3]", 2, 1)):
        (sweep_project / "conf" / "search" / "own.yaml").write_text(
            OWN % f"{{seed: {{kind: choice, choices: {choices}}}}}"
        )
        ended = run_main(search.main, "search=own", *SMALL, f"search.trials={trials}", "tracking=none")
        assert ended.status == status
    assert ended.err.startswith("error: search.space.seed: expected the kind and choices of the study's earlier trials")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_trial_killed_before_its_first_heartbeat_is_retried(
    run_search: Sweep, sweep_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinnet.sweeps.study.HEARTBEAT", 1)
    monkeypatch.setattr("twinnet.sweeps.study.GRACE", 2)
    words = ["search.storage=sqlite:///optuna.db", "search.trials=1", "tracking=none"]
    open_study(sweep_project, f"search.storage=sqlite:///{sweep_project}/optuna.db").ask()
    assert states(sweep_project) == {"RUNNING": 1}
    ended = run_search(*words)
    assert ended.status == 0, ended.err
    assert states(sweep_project) == {"FAIL": 1, "COMPLETE": 1}


@pytest.mark.postgres
@pytest.mark.xdist_group("postgres")
def test_study_on_postgresql(run_search: Sweep) -> None:
    with cluster() as address:
        words = [f"search.storage={address}", "search.trials=3", "tracking=none"]
        ended, again = run_search(*words), run_search(*words)
    assert (ended.status, again.status) == (0, 0), ended.err + again.err
    assert ended.counted() == {"finished": 3}
    assert again.out.startswith("search nba: 3 of 3 trials have ended; postgresql://***@")
    assert again.counted() == {}
    assert ended.out.splitlines()[-1] == again.out.splitlines()[-1]
    assert PASSWORD not in ended.out + ended.err + again.out + again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search.trials=0"], "search.trials: expected at least 1; received 0"),
        (["search.sampler=grid"], "expected a step, or choices, for search.sampler=grid"),
        (["search.sampler=best"], "expected one of tpe, random, grid; received best"),
        (["search.storage=postgresql://someone:secret@127.0.0.1:1/nothing"], "expected a database that answers"),
        (["objective=valid/mae"], "objective: expected one of valid/loss, valid/accuracy"),
        (["objective=test/loss"], "use search.pruner=none, or objective=valid/loss"),
        (["engine=scratch", "engine.batch_configs=true"], "expected a sweep"),
        (["engine=keras", "engine.backend=jax", "engine.dtype=float64"], "engine.dtype=float64: expected float32"),
    ],
)
def test_invalid_search_is_one_line(run_search: Sweep, sweep_project: Path, words: list[str], message: str) -> None:
    ended = run_search("tracking=none", *words)
    assert (ended.status, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    assert message in ended.err
    assert "secret" not in ended.err
    assert not (sweep_project / "outputs").exists()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{optimizer.rate: {kind: number, low: 0, high: 1}}", "search.space.optimizer.rate: .*learning_rate"),
        ("{seed: {kind: number, low: 0, high: 0.5}}", "search.space.seed: .*expected a whole number"),
        ("{seed: {kind: choice}}", "search.space.seed.choices: expected at least one value"),
        ("{seed: {kind: integer, low: 2, high: 1}}", "search.space.seed: expected low and high"),
        ("{seed: {low: 1, high: 2}}", "search.space.seed.kind: expected a value; received none"),
        ("{}", "search.space: expected at least one key"),
        ("'???'", "search.space: expected a value; received none"),
    ],
)
def test_space_that_does_not_fit_is_one_line(run_main: Sweep, sweep_project: Path, space: str, message: str) -> None:
    (sweep_project / "conf" / "search" / "own.yaml").write_text(OWN % space)
    ended = run_main(search.main, "search=own", "tracking=none")
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (1, "", 1)
    assert all(part in ended.err for part in message.split(".*"))
