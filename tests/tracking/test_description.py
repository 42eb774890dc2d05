"""Names and commands of runs, as MLflow shows them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from twinnet.core import config
from twinnet.core.schema import Experiment
from twinnet.tracking import description
from twinnet.training.run_info import RunInfo


@pytest.fixture
def info(compose: Callable[..., Experiment]) -> RunInfo:
    """nba_scratch with a learning rate of 0.01, as `dvc exp run -S` trains it."""
    settings = config.plain(compose("nba_scratch", "optimizer.learning_rate=0.01"))
    settings["data"]["gone"] = "a key of an earlier version"
    return RunInfo(settings, started=1, parameters=17, input_shape=[2], units=1, dvc={"stage": "train@nba_scratch"})


def test_dvc_run_is_named_by_its_changes(info: RunInfo, root: Path) -> None:
    info = replace(info, overrides=description.overrides(info, root))
    assert info.overrides == ["optimizer.learning_rate=0.01"]
    assert description.run_name(info) == "nba_scratch learning_rate=0.01"
    command = "`dvc exp run -S experiments.nba_scratch.optimizer.learning_rate=0.01 train@nba_scratch`"
    assert command in description.running(info)
    assert description.run_name(replace(info, dvc={"stage": "train@nba_scratch", "exp": "tidal-rums"})) == (
        "nba_scratch tidal-rums"
    )


def test_unchanged_dvc_run_is_reproduced_by_its_stage(info: RunInfo, compose: Callable[..., Experiment]) -> None:
    info = replace(info, config=config.plain(compose("nba_scratch")))
    assert description.run_name(info) == "nba_scratch"
    assert "`dvc repro train@nba_scratch`" in description.running(info)


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        ([], "experiment=nba_scratch"),
        (["seed=1", "++engine.batch_configs=true", "figures=true", "resume=false"], "experiment=nba_scratch seed=1"),
        (["experiment=nba_points", "name=nba_scratch"], "experiment=nba_points name=nba_scratch"),
        (["name=nba_scratch"], "name=nba_scratch"),  # of the experiment that conf/train.yaml names
    ],
)
def test_command_of_a_single_run(info: RunInfo, overrides: list[str], command: str) -> None:
    info = replace(info, dvc={}, overrides=overrides)
    assert f"`python -m twinnet.train {command}`" in description.running(info)
