"""engine.batch_configs=true: jobs trained at once are the jobs trained alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.sweeps.commands import Sweep, runs
from twinnet.sweeps import batched, cache, expand

pytestmark = pytest.mark.xdist_group("searches")
GRID = ("engine=scratch", "epochs=1500", "seed=1,2", "optimizer.learning_rate=0.1,1e308")


def weights(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name != "network"}


def metrics(folder: Path) -> dict[str, float]:
    metrics_file = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics_file.items() if "/" in name or name in ("epochs", "parameters")}


def test_batched_jobs_equal_single_jobs(sweep: Sweep, sweep_project: Path) -> None:
    ended = sweep(*GRID, "engine.batch_configs=true")
    assert "training 4 configurations of one shape at once" in ended.out
    assert ended.counted() == {"finished": 2, "failed": 2}
    assert "no longer a finite number" in ended.out
    (parent,), children = runs(sweep_project)
    assert sorted(child.info.status for child in children) == ["FAILED"] * 2 + ["FINISHED"] * 2
    assert parent.info.status == "FAILED"

    found = sorted((sweep_project / cache.RESULTS).glob("*/"))
    trained = {folder.name: (metrics(folder), weights(folder)) for folder in found}
    histories = {folder.name: (folder / "history.csv").read_text() for folder in found}
    assert len(np.load(found[0] / "history.npz")["train/loss"]) == 1500

    again = sweep(*GRID, "tracking=none")  # the same results, so nothing is trained
    assert again.counted()["reused"] == 2
    alone = sweep(*GRID, "tracking=none", "resume=false")
    assert alone.counted() == {"finished": 2, "failed": 2}
    for folder in found:
        measured, own = trained[folder.name]
        assert measured == pytest.approx(metrics(folder), rel=1e-9)
        for name, value in weights(folder).items():
            np.testing.assert_allclose(own[name], value, rtol=1e-8, atol=1e-10)
        assert len(histories[folder.name].splitlines()) == len((folder / "history.csv").read_text().splitlines())


def test_seed_init_and_learning_rate_do_not_change_the_shape(sweep_project: Path) -> None:
    free = ["seed=1,2", "optimizer.learning_rate=0.1,0.2", "model.init=uniform,glorot_uniform"]
    words = ["engine=scratch", "engine.batch_configs=true", *free, "model.hidden_units=[4],[3,3]", "epochs=5,6"]
    groups = batched.group_by_shape(expand.expand_jobs(sweep_project, words)[0])
    assert [len(group) for group in groups] == [8] * 4
    assert len({(str(job.experiment.model.hidden_units), job.experiment.epochs) for job in groups[0]}) == 1


def test_jobs_that_cannot_be_batched_are_trained_one_by_one(
    sweep: Sweep, sweep_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = sweep("engine=scratch", "engine.batch_configs=true", "tracking=none", "epochs=5,6")
    assert "at once" not in ended.out
    assert ended.counted() == {"finished": 2}
    monkeypatch.setattr("twinnet.engines.scratch.fit_batched", lambda *_: 1 / 0)  # as where memory does not suffice
    ended = sweep("engine=scratch", "engine.batch_configs=true", "tracking=none", "epochs=5", "seed=1,2")
    assert "not batched: ZeroDivisionError" in ended.out
    assert ended.counted() == {"finished": 2}
