"""The files of a finished run: written whole, read back, checked."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from twinnet.core import config
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment
from twinnet.training.experiment import train
from twinnet.training.run import RESULT_FILES, Run, config_hash, content_hash, finished_runs, flatten, read_runs
from twinnet.training.run_info import RunInfo

EVERY_FILE = (
    "config.yaml", "metrics.json", "record.json", "history.csv", "predictions.npz", "scaling.json", "model.npz",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Filled by the first test that needs a run."""
    return {"place": tmp_path_factory.mktemp("trained")}


@pytest.fixture
def run(trained: dict[str, Path], tiny_project: Path, compose: Callable[..., Experiment]) -> Run:
    """A trained run, in a folder of the test's own."""
    if "run" not in trained:
        experiment = compose("nba_scratch", "engine=scratch_numpy", "epochs=20")
        trained["run"] = train(experiment, trained["place"] / "nba_scratch", root=tiny_project).directory
    directory = tiny_project / "runs" / "nba_scratch"
    shutil.copytree(trained["run"], directory)
    return Run(directory)


def edit(run: Run, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of the run."""
    values = json.loads((run.directory / name).read_text())
    change(values)
    (run.directory / name).write_text(json.dumps(values))


def write_predictions(run: Run, **arrays: np.ndarray) -> None:
    np.savez(run.directory / "predictions.npz", **({"y_true": run.y_true, "y_prob": run.y_prob} | arrays))


def replace_text(run: Run, name: str, old: str, new: str) -> None:
    text = (run.directory / name).read_text()
    assert old in text
    (run.directory / name).write_text(text.replace(old, new, 1))


def put_folder(run: Run, name: str) -> None:
    (run.directory / name).unlink()
    (run.directory / name).mkdir()


def set_metric(run: Run, **values: Any) -> None:
    edit(run, "metrics.json", lambda metrics: metrics.update(values))


def write_table(run: Run, table: pd.DataFrame) -> None:
    table.to_csv(run.directory / "history.csv", index=False)


def drop_rows(run: Run) -> None:
    lines = (run.directory / "history.csv").read_text().splitlines()
    (run.directory / "history.csv").write_text("\n".join(lines[:10]) + "\n")


# The file that is named, and the damage.
DAMAGES: dict[str, tuple[str, Callable[[Run], object]]] = {
    "a text for a number": ("metrics.json", lambda run: edit(run, "metrics.json", lambda m: m.update(epochs="20"))),
    "a score that is a text": (
        "metrics.json", lambda run: set_metric(run, **{"valid/loss": "low"}),
    ),
    "a truth value for a number": ("metrics.json", lambda run: set_metric(run, epochs=True)),
    "negative epochs": ("metrics.json", lambda run: edit(run, "metrics.json", lambda m: m.update(epochs=-1))),
    "a loss that is NaN": (
        "metrics.json", lambda run: edit(run, "metrics.json", lambda m: m.update({"train/loss": float("nan")})),
    ),
    "a device that is a number": ("metrics.json", lambda run: edit(run, "metrics.json", lambda m: m.update(device=7))),
    "an unknown source": ("metrics.json", lambda run: edit(run, "metrics.json", lambda m: m.update(data_source="x"))),
    "metrics that are a list": ("metrics.json", lambda run: (run.directory / "metrics.json").write_text("[1]")),
    "half of metrics.json": ("metrics.json", lambda run: (run.directory / "metrics.json").write_text('{"epochs": ')),
    "an accuracy of other predictions": (
        "predictions.npz", lambda run: edit(run, "metrics.json", lambda m: m.update({"valid/accuracy": 0.125})),
    ),
    "an empty configuration": ("record.json", lambda run: edit(run, "record.json", lambda m: m.update(config={}))),
    "a start that is a text": ("record.json", lambda run: edit(run, "record.json", lambda m: m.update(started="now"))),
    "an unknown key": ("record.json", lambda run: edit(run, "record.json", lambda m: m.update(weather="fine"))),
    "half of record.json": ("record.json", lambda run: (run.directory / "record.json").write_text('{"config": ')),
    "letters in the history": ("history.csv", lambda run: replace_text(run, "history.csv", "\n10,", "\nten,")),
    "half a history": ("history.csv", drop_rows),
    "a history with NaN": (
        "history.csv", lambda run: write_table(run, run.history.replace(run.history.iloc[3, 1], np.nan)),
    ),
    "a history without a column": (
        "history.csv", lambda run: write_table(run, run.history.drop(columns="valid/loss")),
    ),
    "complex predictions": ("predictions.npz", lambda run: write_predictions(run, y_prob=run.y_prob * 1j)),
    "predictions of text": ("predictions.npz", lambda run: write_predictions(run, y_prob=run.y_prob.astype(str))),
    "predictions that are NaN": ("predictions.npz", lambda run: write_predictions(run, y_prob=run.y_prob * np.nan)),
    "fewer predictions than labels": ("predictions.npz", lambda run: write_predictions(run, y_prob=run.y_prob[:5])),
    "labels of another class": ("predictions.npz", lambda run: write_predictions(run, y_true=run.y_true + 5)),
    "predictions that are no archive": (
        "predictions.npz", lambda run: (run.directory / "predictions.npz").write_text("a text"),
    ),
    "an infinite scale": (
        "scaling.json", lambda run: edit(run, "scaling.json", lambda m: m.update(scale=[float("inf"), 1.0])),
    ),
    "a scale of 0": ("scaling.json", lambda run: edit(run, "scaling.json", lambda m: m.update(scale=[0, 1.0]))),
    "too few means": ("scaling.json", lambda run: edit(run, "scaling.json", lambda m: m.update(mean=[1.0]))),
    "a configuration that cannot be trained": (
        "config.yaml", lambda run: replace_text(run, "config.yaml", "epochs: 20", "epochs: 0"),
    ),
    "a configuration in another encoding": (
        "config.yaml", lambda run: (run.directory / "config.yaml").write_bytes("name: Dončić".encode("iso8859-2")),
    ),
} | {f"a folder for {name}": (name, lambda run, name=name: put_folder(run, name)) for name in EVERY_FILE}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_in_one_line(damage: str, run: Run) -> None:
    name, break_file = DAMAGES[damage]
    break_file(run)
    with pytest.raises(DataError, match=rf"nba_scratch/{name}: expected .*; train it again, or delete") as raised:
        Run.read(run.directory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_missing_file_is_named_in_one_line(run: Run, name: str) -> None:
    (run.directory / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: expected .*; found none"):
        Run.read(run.directory)


def test_run_is_read_back_as_it_was_written(run: Run) -> None:
    read = Run.read(run.directory)
    assert (
        read.info.config == config.plain(read.experiment) == yaml.safe_load((run.directory / "config.yaml").read_text())
    )
    assert (read.info.parameters, read.info.input_shape, read.info.units) == (17, [2], 1)
    assert read.info.data["source"] == "synthetic"
    assert read.info.started <= (read.info.ended or 0)
    assert read.is_synthetic
    assert any("synthetic" in warning for warning in read.warnings)
    assert read.model == run.directory / "model.npz"
    assert read.history["epoch"].tolist() == list(range(1, 21))
    assert read.full_history().table().equals(read.history)
    X = np.array([[1.0, 2.0]])
    assert read.network().predict(X).shape == (1, 1)


def test_info_survives_json(run: Run) -> None:
    assert RunInfo.parse(json.loads(json.dumps(asdict(run.info)))) == run.info


@pytest.mark.parametrize("name", RESULT_FILES)
def test_content_hash_is_of_the_files_of_the_result(run: Run, name: str) -> None:
    before = content_hash(run.directory)
    edit(run, "record.json", lambda values: values.update(overrides=["seed=1"]))
    assert content_hash(run.directory) == before
    content = bytearray((run.directory / name).read_bytes())
    content[-2] ^= 1
    (run.directory / name).write_bytes(content)
    assert content_hash(run.directory) != before


def test_folders_with_metrics_are_finished(run: Run) -> None:
    runs = run.directory.parent
    (runs / "half").mkdir()
    (runs / "half" / "history.csv").touch()
    assert finished_runs(runs) == [run.directory]
    with pytest.raises(DataError, match=r"half/config.yaml: expected"):
        read_runs(runs)
    assert [found.name for found in read_runs(runs, ["nba_scratch"])] == ["nba_scratch"]
    with pytest.raises(DataError, match="expected finished runs in"):
        read_runs(runs / "none")


def test_seeds_share_a_configuration(compose: Callable[..., Experiment]) -> None:
    def of(*overrides: str) -> str:
        return config_hash(config.plain(compose("nba_scratch", *overrides)))

    assert of() == of("seed=5") == of("description=other")
    others = [of(change) for change in ("optimizer.learning_rate=0.5", "model.hidden_units=[5]", "device=cpu")]
    assert len({of(), *others}) == 4


def test_settings_are_flattened_as_yaml_writes_them() -> None:
    settings = {"model": {"hidden_units": [4], "l2": 0.0}, "loss": None, "flip": False, "name": "a"}
    assert flatten(settings) == {
        "model.hidden_units": "[4]", "model.l2": "0.0", "loss": "null", "flip": "false", "name": "a",
    }  # fmt: skip
