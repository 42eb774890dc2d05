"""The files of a finished run: written whole, read back, checked."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.training.faults import Case, cases, try_case
from twinnet.core import config
from twinnet.core.errors import DataError
from twinnet.core.schema import Experiment
from twinnet.training.experiment import train
from twinnet.training.run import RESULT_FILES, Run, config_hash, finished_runs, flatten, read_runs
from twinnet.training.run_info import RunInfo


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


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.tried)
def test_damaged_file_is_named_in_one_line(case: Case, run: Run) -> None:
    outcome = try_case(case, run.directory)
    assert not outcome.mistakes, outcome.answer


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


def test_password_that_is_a_word_of_the_configuration(
    tiny_project: Path, compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sigmoid")
    run = train(compose("nba_scratch", "engine=scratch_numpy", "epochs=1"), tiny_project / "run", root=tiny_project)
    read = Run.read(run.directory)
    assert read.info.config["model"]["activation"] == "sigmoid"


def test_info_survives_json(run: Run) -> None:
    assert RunInfo.parse(json.loads(json.dumps(asdict(run.info)))) == run.info


@pytest.mark.parametrize("name", RESULT_FILES)
def test_content_hash_is_of_the_files_of_the_result(run: Run, name: str) -> None:
    before = Run(run.directory).content_hash
    record = json.loads((run.directory / "record.json").read_text())
    (run.directory / "record.json").write_text(json.dumps(record | {"overrides": ["seed=1"]}))
    assert Run(run.directory).content_hash == before
    content = bytearray((run.directory / name).read_bytes())
    content[-2] ^= 1
    (run.directory / name).write_bytes(content)
    assert Run(run.directory).content_hash != before


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
