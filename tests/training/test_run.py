"""What a run's directory holds, read back."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinnet.core import config
from twinnet.core.errors import DataError
from twinnet.core.history import Chunk, History
from twinnet.core.schema import Experiment
from twinnet.training import experiment as training
from twinnet.training import run as records
from twinnet.training.experiment import Run


@pytest.fixture(scope="module")
def trained() -> dict[str, Run]:
    """Filled by the first test that needs a run."""
    return {}


@pytest.fixture
def run(
    trained: dict[str, Run],
    tiny_project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    compose: Callable[..., Experiment],
) -> Run:
    """A trained run, in a folder of the test's own."""
    if not trained:
        experiment = compose("nba_scratch", "engine=scratch_numpy", "epochs=20")
        kept = tmp_path_factory.mktemp("kept") / "nba_scratch"
        trained["run"] = training.train(experiment, kept, root=tiny_project)
    directory = tiny_project / "runs" / "nba_scratch"
    shutil.copytree(trained["run"].directory, directory)
    return replace(trained["run"], directory=directory)


def test_a_directory_without_record_json_tells_what_it_can(run: Run) -> None:
    record = records.read(run.directory)
    assert record.facts.config == config.plain(run.experiment)
    assert (record.facts.parameters, record.facts.input_shape, record.facts.units) == (17, [2], 1)
    assert record.facts.data["source"] == "synthetic"
    assert record.facts.started <= (record.facts.ended or 0)
    assert record.metrics == run.metrics
    assert record.model == run.directory / "model.npz"


def test_record_json_is_read_back_as_it_was_written(run: Run) -> None:
    facts = replace(records.read(run.directory).facts, warnings=["a"], overrides=["seed=1"], code={"dirty": True})
    records.write(run.directory, facts)
    assert records.read(run.directory).facts == facts


@pytest.mark.parametrize("name", records.RESULT_FILES)
def test_the_result_changes_with_each_file_that_makes_it_and_with_nothing_else(run: Run, name: str) -> None:
    before = records.result(run.directory)
    records.write(run.directory, records.read(run.directory).facts)
    assert records.result(run.directory) == before
    content = bytearray((run.directory / name).read_bytes())
    content[-2] ^= 1
    (run.directory / name).write_bytes(content)
    assert records.result(run.directory) != before


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "config.yaml", "predictions.npz"])
def test_a_missing_file_is_told_in_one_line(run: Run, name: str) -> None:
    (run.directory / name).unlink()
    with pytest.raises(DataError, match=r"expected a finished run in .*; received FileNotFoundError") as raised:
        records.read(run.directory)
    assert "\n" not in str(raised.value)


def test_a_truncated_record_is_told_in_one_line(run: Run) -> None:
    (run.directory / "record.json").write_text('{"config": ')
    with pytest.raises(DataError, match="expected a finished run"):
        records.read(run.directory)


def test_only_directories_with_metrics_are_complete(run: Run) -> None:
    runs = run.directory.parent
    (runs / "half").mkdir()
    (runs / "half" / "history.csv").touch()
    assert records.complete(runs) == [run.directory]


def test_seeds_share_a_configuration_and_nothing_else_does(compose: Callable[..., Experiment]) -> None:
    def of(*overrides: str) -> str:
        return records.configuration(config.plain(compose("nba_scratch", *overrides)))

    assert of() == of("seed=5") == of("description=other")
    others = [of(change) for change in ("optimizer.learning_rate=0.5", "model.hidden_units=[5]", "device=cpu")]
    assert len({of(), *others}) == 4


def test_points_are_the_rows_of_the_table() -> None:
    history = History()
    for start in range(3):
        loss = np.arange(start, start + 4) / 10
        history.append(Chunk(loss, 1 - loss, start + 0.5, start + 0.25))
    assert records.points(history, 0, 12) == records.steps(history.table(), 12)
    assert [row["epoch"] for row in records.points(history, 1, 12)] == [8, 12]


@given(chunks=st.integers(1, 1000), length=st.integers(1, 7), stopped=st.booleans())
def test_a_curve_in_the_store_has_few_steps_evenly_over_all_epochs(chunks: int, length: int, stopped: bool) -> None:
    history, planned = History(), chunks * length * (3 if stopped else 1)
    for _ in range(chunks):
        history.append(Chunk(np.zeros(length), np.zeros(length), 0.0, 0.0))
    live, later = (
        [row["epoch"] for row in rows]
        for rows in (records.points(history, 0, planned), records.steps(history.table(), planned))
    )
    assert live == later or [*live, chunks * length] == later, "a live curve lacks at most the epoch that it stops at"
    assert len(later) <= records.STEPS + 2
    assert (later[0], later[-1]) == (length, chunks * length)
    assert max(np.diff(later), default=0) <= max(length, 2 * -(-planned // records.STEPS))


def test_settings_are_flattened_as_they_are_written_in_yaml() -> None:
    settings = {"model": {"hidden_units": [4], "l2": 0.0}, "loss": None, "flip": False, "name": "a"}
    assert records.flatten(settings) == {
        "model.hidden_units": "[4]", "model.l2": "0.0", "loss": "null", "flip": "false", "name": "a",
    }  # fmt: skip


def test_facts_survive_json(run: Run) -> None:
    facts = records.read(run.directory).facts
    assert records.RunInfo(**json.loads(json.dumps(facts.__dict__))) == facts
