"""engine.batch_configs=true: one compiled call, and each job is still the one that it would have been alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.sweeps.lab import Sweep, runs
from twinnet.sweeps import batched, cache, expand

pytestmark = pytest.mark.xdist_group("sweeps")
GRID = ("engine=scratch", "epochs=1500", "seed=1,2", "optimizer.learning_rate=0.1,1e308")


def weights(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz") as arrays:
        return {name: arrays[name] for name in arrays.files if name != "network"}


def metrics(folder: Path) -> dict[str, float]:
    told = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in told.items() if "/" in name or name in ("epochs", "parameters")}


def test_jobs_of_one_shape_are_trained_together_and_are_what_they_would_have_been_alone(
    sweep: Sweep, lab: Path
) -> None:
    ended = sweep(*GRID, "engine.batch_configs=true")
    assert "training 4 configurations of one shape together" in ended.out
    assert ended.counted() == {"finished": 2, "failed": 2}
    assert "no longer a finite number" in ended.out
    (parent,), children = runs(lab)
    assert sorted(child.info.status for child in children) == ["FAILED"] * 2 + ["FINISHED"] * 2
    assert parent.info.status == "FAILED"

    found = sorted((lab / cache.RESULTS).glob("*/"))
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


def test_a_shape_is_all_but_seed_initial_weights_and_learning_rate(lab: Path) -> None:
    free = ["seed=1,2", "optimizer.learning_rate=0.1,0.2", "model.init=uniform,glorot_uniform"]
    words = ["engine=scratch", "engine.batch_configs=true", *free, "model.hidden_units=[4],[3,3]", "epochs=5,6"]
    groups = batched.shapes(expand.jobs(lab, words)[0])
    assert [len(group) for group in groups] == [8] * 4
    assert len({(str(job.experiment.model.hidden_units), job.experiment.epochs) for job in groups[0]}) == 1


def test_what_cannot_be_trained_together_is_trained_as_usual(
    sweep: Sweep, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = sweep("engine=scratch", "engine.batch_configs=true", "tracking=none", "epochs=5,6")
    assert "together" not in ended.out
    assert ended.counted() == {"finished": 2}
    monkeypatch.setattr("twinnet.engines.scratch.fit_batched", lambda *_: 1 / 0)  # as where memory does not suffice
    ended = sweep("engine=scratch", "engine.batch_configs=true", "tracking=none", "epochs=5", "seed=1,2")
    assert "not together: ZeroDivisionError" in ended.out
    assert ended.counted() == {"finished": 2}
