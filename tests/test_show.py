"""`python -m twinnet.show`: layers, shapes, parameters and weights of a run."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.processed import write_players
from twinnet import show
from twinnet.core import config
from twinnet.core.network import build_network
from twinnet.core.schema import Experiment
from twinnet.training.experiment import train
from twinnet.training.run import Run


@pytest.fixture(scope="module")
def run(compose: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("project")
    write_players(folder)
    return train(compose("nba_scratch", "engine=scratch_numpy", "epochs=3"), folder / "runs/mine", root=folder)


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["show", *arguments])
    show.main()
    return capsys.readouterr().out


def test_summary_of_the_chapters_network(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(monkeypatch, capsys, str(run.directory))
    assert text.startswith("mine: nba (synthetic data), scratch, valid/accuracy ")
    assert re.search(r"Dense sigmoid +2 +4 +W 2 x 4, b 4 +12\n", text)
    assert re.search(r"Dense sigmoid +4 +1 +W 4 x 1, b 1 +5\n", text)
    assert text.splitlines()[-1] == "17 parameters"


def test_weights_are_those_of_the_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(monkeypatch, capsys, str(run.directory), "--weights")
    assert re.findall(r"^\w\d [\dx ]+$", text, re.MULTILINE) == ["W1 2 x 4", "b1 4", "W2 4 x 1", "b2 1"]
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text.partition("W1 2 x 4")[2])]
    expected = [value for layer in run.network().weights() for array in layer.values() for value in array.ravel()]
    assert numbers == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["fashion_cnn", "fashion_resnet20", "fashion_dense_book", "nba_points"])
def test_parameters_of_the_layers_are_those_of_the_network(name: str, compose: Callable[..., Experiment]) -> None:
    network = build_network(compose(name))
    table = show.layers(network)
    assert table["parameters"].sum() == network.parameters()
    assert len(table) == len(network.layers)


def test_run_in_the_working_directory_has_its_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.directory)
    assert printed(monkeypatch, capsys, ".").startswith(f"{run.directory.name}: nba (")


def test_summary_of_a_keras_run_loads_no_engine(compose: Callable[..., Experiment], run: Run, tmp_path: Path) -> None:
    """The files of a run by hand, whose configuration names the other engine."""
    shutil.copytree(run.directory, tmp_path / "nba_keras")
    settings = config.plain(compose("nba_keras", "epochs=3"))
    record = json.loads((run.directory / "record.json").read_text())
    (tmp_path / "nba_keras/record.json").write_text(json.dumps(record | {"config": settings}))
    (tmp_path / "nba_keras/config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "nba_keras/model.keras").touch()
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_module('twinnet.show', run_name='__main__');"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "nba_keras"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "keras, valid/accuracy" in done.stdout


@pytest.mark.parametrize("folder", ["no/such/run", "."])
def test_what_is_not_a_run_is_one_line(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        printed(monkeypatch, capsys, folder)
    assert len(capsys.readouterr().err.splitlines()) == 1
