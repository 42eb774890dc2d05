"""What a tracked training leaves in the store."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinnet.core import config
from twinnet.core.errors import ConfigError, DivergedError
from twinnet.core.metrics import class_probabilities
from twinnet.core.schema import Tracking
from twinnet.engines.scratch import model as fitted
from twinnet.tracking import log_run
from twinnet.tracking.curves import STEPS, final_metrics, thin_table
from twinnet.tracking.process import this_process
from twinnet.tracking.publish import publish
from twinnet.tracking.search_runs import promote, runs_table
from twinnet.tracking.store import Store, connect
from twinnet.training.run import Run, flatten


def store(root: Path) -> Store:
    return connect(f"sqlite:///{root}/mlflow.db")


def only_run(root: Path) -> Any:
    (run,) = store(root).search("")
    return run


reads = pytest.mark.xdist_group("tracked")  # one training


@pytest.fixture
def run(tracked: Run) -> Run:
    return tracked


@reads
def test_run_in_the_store_is_complete(run: Run) -> None:
    project = run.directory.parents[1]
    found, client = only_run(project), store(project).client
    assert (found.info.status, found.info.run_name) == ("FINISHED", "nba_scratch epochs=2500 seed=7")
    assert client.get_experiment(found.info.experiment_id).name == "nba"
    expected = flatten(config.plain(run.experiment)) | {"loss": "binary_crossentropy"}  # null there: the task's own
    assert found.data.params == {key: value for key, value in expected.items() if key not in ("name", "description")}
    final = {key: value for key, value in run.metrics.items() if not isinstance(value, str)}
    assert final_metrics(found.data.metrics) == pytest.approx(final)
    last = run.history.iloc[-1]
    assert found.data.metrics["valid/loss"] == pytest.approx(last["valid/loss"])
    assert found.data.metrics["final/valid/loss"] == pytest.approx(run.metrics["valid/loss"])
    tags = found.data.tags
    assert (tags["device"], tags["seed"], tags["engine"]) == ("cpu", "7", "scratch/numpy")
    assert (tags["data_source"], tags["sweep"], tags["overrides"]) == ("synthetic", "first", "epochs=2500 seed=7")
    assert tags["warnings"] == run.warnings[0]
    assert tags["version.numpy"] == np.__version__
    assert tags["twinnet.result"] == run.content_hash
    assert "synthetic data: drawn by a program, not measured" in tags["mlflow.note.content"]
    (data,) = found.inputs.dataset_inputs
    assert "**Reproduce.** " in tags["mlflow.note.content"]
    assert "`python -m twinnet.train experiment=nba_scratch epochs=2500 seed=7`" in tags["mlflow.note.content"]
    digest = json.loads((run.directory / "record.json").read_text())["data"]["digest"]
    assert (data.dataset.name, data.dataset.digest) == ("nba", digest[:12])
    names = [file.path for file in client.list_artifacts(found.info.run_id)]
    assert names == ["config.yaml", "figures", "history", "metrics.json", "predictions.npz"]
    figures = {file.path for file in client.list_artifacts(found.info.run_id, "figures")}
    assert figures == {f"figures/{path.name}" for path in run.figures} != set()


@reads
def test_curves_have_few_steps_of_the_history(run: Run) -> None:
    project = run.directory.parents[1]
    client = store(project).client
    table = pd.DataFrame(thin_table(run.history, run.experiment.epochs))
    assert 250 <= len(table) <= STEPS + 2
    for key in ("train/loss", "train/accuracy", "valid/loss", "valid/accuracy"):
        points = client.get_metric_history(only_run(project).info.run_id, key)
        assert [point.step for point in points] == list(table["epoch"])
        np.testing.assert_allclose([point.value for point in points], table[key], rtol=1e-9)


@reads
def test_logged_model_predicts_what_the_run_predicts(run: Run) -> None:
    project = run.directory.parents[1]
    import mlflow

    found = only_run(project)
    (output,) = found.outputs.model_outputs
    model = store(project).client.get_logged_model(output.model_id)
    loaded = mlflow.pyfunc.load_model(model.artifact_location)
    requirements = (Path(model.artifact_location.removeprefix("file://")) / "requirements.txt").read_text().split()
    names = [line.partition("==")[0] for line in requirements]
    assert names == ["mlflow", "pandas", "numpy", "omegaconf", "threadpoolctl"]
    assert loaded.metadata.get_input_schema().input_types() == [np.dtype("float64")]
    shown = loaded.input_example
    X = np.random.default_rng(0).normal(size=(9, 2))
    for sample in (X, shown):
        expected = fitted.load(run.directory / "model.npz").predict(sample)
        np.testing.assert_allclose(loaded.predict(sample), class_probabilities(expected), rtol=1e-12)


def test_long_training_records_the_machine(train: Callable[..., Run], project: Path) -> None:
    def system(root: Path) -> dict[str, float]:
        metrics = [run.data.metrics for run in store(root).search("")]
        return {key: value for run in metrics for key, value in run.items() if key.startswith("system/")}

    def at(history: Any) -> None:
        until = time.monotonic() + 150  # the follower imports MLflow first, on a busy machine
        while history.epochs == 20 and not system(project):
            assert time.monotonic() < until
            time.sleep(0.1)

    run = train(settings=Tracking(system_seconds=0.2, live_seconds=0.0), at=at)
    measured = system(project)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= measured.keys()
    final = {key: value for key, value in run.metrics.items() if not isinstance(value, str)}
    assert final_metrics(only_run(project).data.metrics).keys() == final.keys()
    assert not any(name.startswith("system/") for name in runs_table(root=project))


def test_best_run_is_promoted_once(train: Callable[..., Run], project: Path) -> None:
    for epochs in (2, 400, 3):
        train(f"epochs={epochs}", "data.scaling=standard", "optimizer.learning_rate=0.1", name="nba_scratch")
    client = store(project).client
    found = list(store(project).search(""))
    best = max(found, key=lambda run: final_metrics(run.data.metrics)["valid/accuracy"])
    for _ in range(2):
        line = promote("nba", project)
        assert line.startswith(f"models:/nba@best is version 1: {best.info.run_name} (run {best.info.run_id}), valid/")
    version = client.get_model_version_by_alias("nba", "best")
    assert (str(version.version), version.run_id) == ("1", best.info.run_id)
    model = client.get_logged_model(best.outputs.model_outputs[0].model_id)
    assert version.source == model.artifact_location
    with pytest.raises(ConfigError, match=r"^promote: expected a data set with finished runs \(nba\); received mba$"):
        promote("mba", project)


@reads
def test_new_experiment_is_model_training(run: Run) -> None:
    project = run.directory.parents[1]
    experiment = store(project).client.get_experiment_by_name("nba")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "nba" in experiment.tags["mlflow.note.content"]


def test_describing_a_run_again_adds_nothing(train: Callable[..., Run], project: Path) -> None:
    """The follower repeats it on the run that it has made, if the store did not answer."""
    info = train(settings=Tracking(enabled=False)).info
    experiment = log_run.open_experiment(store(project), info)
    run_id = log_run.create(store(project), info, {}, this_process(), experiment)
    for _ in range(2):
        log_run.describe(store(project), run_id, info)
    found = only_run(project)
    assert found.data.params == log_run.parameters(info)
    assert found.data.params["loss"] == "binary_crossentropy"  # which the configuration leaves to the task
    assert len(found.inputs.dataset_inputs) == 1


def test_failed_training_is_marked_with_reason_and_traceback(train: Callable[..., Run], project: Path) -> None:
    with pytest.raises(DivergedError):
        train("data.scaling=standard", "optimizer.learning_rate=1e308", "epochs=100")
    found, client = only_run(project), store(project).client
    assert found.info.status == "FAILED"
    assert found.data.tags["reason"].startswith("DivergedError: the loss is no longer a finite number at epoch")
    traceback = client.download_artifacts(found.info.run_id, "traceback.txt", str(project))
    assert "in _train" in Path(traceback).read_text(encoding="utf-8")
    assert "**Failed.** DivergedError" in found.data.tags["mlflow.note.content"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_training_is_killed_and_keeps_its_curves(
    train: Callable[..., Run], project: Path, interruption: type[BaseException]
) -> None:
    def at(history: Any) -> None:
        if history.epochs == 20:
            raise interruption

    handler = signal.getsignal(signal.SIGINT)  # ignored, where a shell began the tests in its background
    with pytest.raises(interruption):
        train(at=at)
    found = only_run(project)
    assert (found.info.status, found.data.tags["reason"]) == ("KILLED", "interrupted")
    points = store(project).client.get_metric_history(found.info.run_id, "valid/loss")
    assert [point.step for point in points] == list(range(1, 21))
    assert signal.getsignal(signal.SIGINT) is handler


def test_curves_grow_while_the_training_runs(train: Callable[..., Run], project: Path) -> None:
    seen: list[int] = []

    def at(history: Any) -> None:
        until = time.monotonic() + 300
        while history.epochs == 20 and not seen and time.monotonic() < until:
            for found in store(project).search("attributes.status = 'RUNNING'"):
                seen.extend(p.step for p in store(project).client.get_metric_history(found.info.run_id, "train/loss"))
            time.sleep(0.05)

    train(at=at, settings=Tracking(live_seconds=0))
    assert seen
    assert seen == list(range(1, len(seen) + 1))


def test_untracked_run_is_published_from_its_record(
    train: Callable[..., Run], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@nba_scratch")
    run = train("seed=3", settings=Tracking(enabled=False))
    assert list(store(project).search("")) == []
    monkeypatch.delenv("DVC_STAGE")
    publish(run.directory.parent, root=project)
    tags = only_run(project).data.tags
    assert (tags["dvc.stage"], tags["overrides"], tags["published"]) == (
        "train@nba_scratch", "seed=3", "from its record on disk"
    )  # fmt: skip


def test_runs_are_read_back_as_a_table(train: Callable[..., Run], project: Path) -> None:
    first = train("seed=1")
    second = train("seed=2", "optimizer.learning_rate=0.01")
    third = train("seed=3")
    address = os.environ.get("MLFLOW_TRACKING_URI")
    table = runs_table(root=project).set_index("seed")
    assert os.environ.get("MLFLOW_TRACKING_URI") == address  # so that the next call reads the same store
    assert list(table["experiment"].unique()) == ["nba_scratch"]
    assert table["configuration"][1] == table["configuration"][3] != table["configuration"][2]
    for seed, run in ((1, first), (2, second), (3, third)):
        assert table["valid/loss"][seed] == pytest.approx(run.metrics["valid/loss"])
    assert runs_table(root=project, datasets=["mnist"]).empty
