"""params.yaml: a broken one is one line in every stage, and no value in it is overwritten without a word."""

import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.suite import copy_conf

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """`run("params", "check")`: a module of pipelines/, in this process, with conf/ and params.yaml of its own."""
    for name in ("pipelines", "dvc.yaml"):
        (tmp_path / name).symlink_to(root / name)
    copy_conf(root, tmp_path, "dataset@datasets.nba: nba", "experiment@experiments.nba_scratch: nba_scratch")
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def start(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [module, *words])
        capsys.readouterr()
        status = 0
        try:
            runpy.run_module(f"pipelines.{module}", run_name="__main__")
        except SystemExit as ended:
            status = int(ended.code or 0)
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    start("params", "write")
    yield start
    signal.signal(signal.SIGTERM, handler)


def is_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> bool:
    lines = done.stderr.strip().splitlines()
    return done.returncode == 1 and len(lines) == 1 and all(part in lines[0] for part in ("error: ", *parts))


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("params", "check"),
        ("params", "refresh"),
        ("download", "nba"),
        ("preprocess", "nba"),
        ("card", "nba"),
        ("train", "nba_scratch"),
        ("compare", ""),
        ("publish", ""),
    ],
)
def test_broken_params_yaml_is_one_line_in_each_stage(run: Run, tmp_path: Path, stage: str, name: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"<<<<<<< HEAD\n{file.read_text()}=======\n>>>>>>> other\n")
    assert is_one_line(run(stage, *name.split()), "params.yaml: expected a YAML file", "run `make params`")


@pytest.mark.parametrize(("stage", "part"), [("download", "datasets"), ("train", "experiments")])
def test_unknown_name_of_a_stage_is_one_line(run: Run, stage: str, part: str) -> None:
    assert is_one_line(run(stage, "nothing"), f"{part}: expected one of", "received 'nothing'")
    assert is_one_line(run(stage), f"{part}: expected one of")


def test_blank_in_an_override_goes_through_check(run: Run, tmp_path: Path) -> None:
    """As `make params S="'experiments.nba_scratch.description=my own run'"` hands it on."""
    assert run("params", "write", "experiments.nba_scratch.description=my own run").returncode == 0
    assert run("params", "check").returncode == 0
    assert "description: my own run" in (tmp_path / "params.yaml").read_text()


def test_values_by_hand_or_by_dvc_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    """`make repro` starts with `refresh`."""
    file = tmp_path / "params.yaml"
    composed = file.read_text()
    edited = composed.split("\n", 2)[2].replace("epochs: 100000", "epochs: 7", 1)  # as DVC writes it: no header
    file.write_text(edited)
    refused = run("params", "refresh")
    command = "`make params S=experiments.nba_scratch.epochs=7`"
    assert is_one_line(refused, "experiments.nba_scratch.epochs is 7; conf/ says 100000", command), refused.stderr
    assert file.read_text() == edited
    assert run("params", "write", "experiments.nba_scratch.epochs=7").returncode == 0
    again = run("params", "refresh")
    assert again.returncode == 0
    assert "composed with experiments.nba_scratch.epochs=7, as before" in again.stdout
    assert run("params", "write").returncode == 0
    assert file.read_text() == composed


def test_params_yaml_that_lags_behind_conf_is_refreshed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "conf/experiment/nba_scratch.yaml"
    file.write_text(file.read_text().replace("epochs: 100000", "epochs: 9"))
    assert is_one_line(run("params", "check"), "is not the composition of conf/", "run `make params`")
    assert run("params", "refresh").returncode == 0
    assert "epochs: 9" in (tmp_path / "params.yaml").read_text()


MAKEFILE = "params:\n\t@$(PYTHON) -c 'import sys; print(*sys.argv[1:], sep=\"\\0\")' $(S)\n"


@pytest.mark.parametrize("text", ["two words", "true", "NaN", "$HOME", "it's", 'a "b"\\', "a,b: {c}", ""])
def test_command_of_a_refusal_composes_the_same_values(text: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    values = yaml.safe_load(file.read_text())
    values["experiments"]["nba_scratch"]["description"] = text
    values["datasets"]["nba"]["players"]["playoffs"] = [1, 2]
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    _, command, *_ = run("params", "refresh").stderr.split("to keep them, ")[1].split("`")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    printed = subprocess.run(
        [*shlex.split(command), f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run("params", "write", *printed.stdout.removesuffix("\n").split("\0")).returncode == 0
    assert yaml.safe_load(file.read_text()) == values


def test_number_as_dvc_writes_it_is_a_number(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-05"))
    command = "`make params S=experiments.nba_scratch.optimizer.learning_rate=1e-05`"
    assert is_one_line(run("params", "refresh"), command)


def test_key_with_a_dot_is_written_into_conf(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    values = yaml.safe_load(file.read_text())
    values["datasets"]["nba"]["sources"]["mirror"]["sha256"] = {"a.csv": "0"}
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    assert is_one_line(run("params", "refresh"), "to keep them, write them into conf/")


def test_interpolation_or_repeated_blanks_are_written_into_conf(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    composed = file.read_text()
    for text in ("${x}", "two  blanks"):  # an error is printed in one line, without the second blank
        file.write_text(composed.replace("2-4-1", text, 1))
        assert is_one_line(run("params", "refresh"), "to keep them, write them into conf/")
