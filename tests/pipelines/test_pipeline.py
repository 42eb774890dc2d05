"""The whole way: every stage runs, leaves what the contract of outputs says, and runs again only when it has to."""

import json
import shlex
import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.pipelines.project import Project
from twinnet.core.provenance import SYNTHETIC_NOTE
from twinnet.tracking.store import connect
from twinnet.training.run import finished_runs

pytestmark = [
    pytest.mark.slow,  # trains the nine experiments of the suite, each in a process of its own
    pytest.mark.xdist_group("pipeline"),
]


@pytest.fixture(scope="module")
def experiments(project: Project) -> dict[str, dict]:
    return yaml.safe_load((project.folder / "params.yaml").read_text())["experiments"]


def test_every_run_keeps_the_contract_of_outputs(project: Project, experiments: dict[str, dict]) -> None:
    assert len(experiments) == 9
    for name, experiment in experiments.items():
        run = project.folder / "runs" / name
        metrics = json.loads((run / "metrics.json").read_text())
        metric = "mae" if experiment["data"]["task"] == "regression" else "accuracy"
        expected = {"epochs", "seconds", "parameters", "data_source", "device"}
        expected |= {f"{split}/{key}" for split in ("train", "valid") for key in ("loss", metric)}
        expected |= {f"test/{key}" for key in ("loss", metric)} if experiment["data"]["kind"] == "images" else set()
        assert set(metrics) == expected, name
        assert metrics["epochs"] == experiment["limits"]["epochs"]
        assert metrics["data_source"] == "synthetic"

        history = pd.read_csv(run / "history.csv")
        assert list(history) == ["epoch", "train/loss", f"train/{metric}", "valid/loss", f"valid/{metric}"]
        assert len(history) <= 1000
        assert np.isfinite(history.to_numpy()).all()
        with np.load(run / "history.npz", allow_pickle=False) as whole:
            assert len(whole["train/loss"]) == metrics["epochs"]
        with np.load(run / "predictions.npz", allow_pickle=False) as predictions:
            assert len(predictions["y_true"]) == len(predictions["y_prob"]) > 0
        assert (run / ("model.keras" if experiment["engine"]["kind"] == "keras" else "model.npz")).stat().st_size > 0
        assert yaml.safe_load((run / "config.yaml").read_text()) == experiment
        drawn = {path.name for path in (project.folder / "reports/runs" / name).glob("*.png")}
        assert {"learning_curves.png", "confusion_matrix.png"} <= drawn or metric == "mae"
        if experiment["data"].get("features") == ["apg", "rpg"]:
            assert "decision_boundary.png" in drawn
        if experiment["data"]["kind"] == "images":
            assert {"samples.png", "predictions.png"} <= drawn


def test_synthetic_data_say_so_wherever_a_result_is_read(project: Project) -> None:
    provenance = json.loads((project.folder / "data/raw/nba/provenance.json").read_text())
    assert provenance["source"] == "synthetic"
    assert SYNTHETIC_NOTE.capitalize() in (project.folder / "reports/comparison/comparison.md").read_text()
    assert "SYNTHETIC" in project.output


def test_the_twins_record_the_same_curve(project: Project) -> None:
    scratch, keras = (
        pd.read_csv(project.folder / "runs" / name / "history.csv") for name in ("nba_scratch", "nba_keras")
    )
    np.testing.assert_allclose(scratch.to_numpy(), keras.to_numpy(), rtol=0, atol=1e-10)


def test_a_second_repro_has_nothing_to_train(project: Project) -> None:
    again = project.run("make", "-o", ".venv/runtime", "repro", f"S={' '.join(project.overrides())}").stdout
    assert project.ran(again) <= {"publish"}
    assert "the MLflow UI: make ui" in again


def test_dvc_exp_run_retrains_the_experiment_it_changes(copy: Callable[[], Project]) -> None:
    mine = copy()
    changes = [*mine.overrides(tracked=True), "experiments.nba_scratch.optimizer.learning_rate=0.01"]
    done = mine.run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)))
    assert {stage for stage in mine.ran(done.stdout) if stage.startswith("train")} == {"train@nba_scratch"}
    written = yaml.safe_load((mine.folder / "runs/nba_scratch/config.yaml").read_text())
    assert written["optimizer"]["learning_rate"] == 0.01
    stored = {run.data.tags["experiment"]: run.data for run in connect(f"sqlite:///{mine.folder}/mlflow.db").search("")}
    assert stored.keys() == {path.name for path in finished_runs(mine.folder / "runs")}, "trained or published"
    assert "published" in stored["nba_keras"].tags
    assert stored["nba_scratch"].tags["dvc.stage"] == "train@nba_scratch"
    assert stored["nba_scratch"].tags["dvc.exp"] in done.stdout
    others = ".*/|Created|conf|params|runs"  # as the reference drops them
    shown = mine.run("env", "COLUMNS=300", "dvc", "exp", "show", "--only-changed", "--drop", others).stdout
    assert "0.01" in shown
    header = next(line for line in shown.splitlines() if "Experiment" in line)
    assert "nba_scratch" in header
    assert "json:" not in header  # a path would leave no room in 100 columns
    assert "nba_scratch" in mine.run("dvc", "metrics", "diff").stdout
    mine.run("dvc", "plots", "diff")
    page = (mine.folder / "build/plots/index.html").read_text()
    assert '"rev": "HEAD"' in page
    assert '"rev": "workspace"' in page
    _apply_and_repro(mine, done.stdout.partition("Ran experiment(s): ")[2].split()[0])


def _apply_and_repro(mine: Project, name: str) -> None:
    """`make repro` never overwrites what `dvc exp apply` has put into params.yaml."""
    mine.run("git", "checkout", ".")
    mine.run("dvc", "exp", "apply", name)
    applied = (mine.folder / "params.yaml").read_bytes()
    refused = mine.run("make", "-o", ".venv/runtime", "repro", check=False)
    assert refused.returncode != 0
    assert "params.yaml: expected what `make params` wrote; received other values" in refused.stdout
    keep = refused.stdout.partition("to keep them, `make params S=")[2].partition("`; to take conf/'s, `make params`")[
        0
    ]
    assert "experiments.nba_scratch.optimizer.learning_rate=0.01" in keep
    assert (mine.folder / "params.yaml").read_bytes() == applied
    (words,) = shlex.split(keep)
    mine.run("make", "-o", ".venv/runtime", "params", f"S={words}")
    kept, found = (yaml.safe_load(text) for text in ((mine.folder / "params.yaml").read_bytes(), applied))
    assert kept == found


def test_experiment_runs_in_a_clone_without_a_cache(copy: Callable[[], Project]) -> None:
    """dvc.lock then names outputs that are nowhere."""
    mine = copy()
    shutil.rmtree(mine.folder / ".dvc/cache")
    mine.run("git", "clean", "-qfdX")
    changes = [*mine.overrides(), "experiments.nba_scratch.seed=5"]
    words = [part for change in changes for part in ("-S", change)]
    assert "Ran experiment(s)" in mine.run("dvc", "exp", "run", "--temp", *words, "train@nba_scratch").stdout
