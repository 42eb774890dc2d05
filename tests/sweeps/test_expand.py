"""What a sweep is made of is settled, and everything wrong with it told in one line, before any job starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from twinnet import train
from twinnet.core import config
from twinnet.core.errors import ConfigError, DataError, TwinnetError
from twinnet.core.schema import Experiment
from twinnet.sweeps import cache, expand, launchers
from twinnet.training import fingerprint

pytestmark = pytest.mark.xdist_group("sweeps")
SMALL = ("experiment=nba_scratch", "engine=scratch_numpy", "epochs=20")


def labels(lab: Path, *words: str) -> list[str]:
    return [job.label for job in expand.jobs(lab, [*SMALL, *words])[0]]


def test_a_grid_is_every_combination_once(lab: Path) -> None:
    assert labels(lab, "seed=1,2", "optimizer.learning_rate=0.1,0.01") == [
        f"seed={seed} optimizer.learning_rate={rate}" for seed in (1, 2) for rate in (0.1, 0.01)
    ]
    assert labels(lab, "seed=range(0,3)", "model.hidden_units=[4],[8,8]")[-1] == "seed=2 model.hidden_units=[8,8]"
    assert labels(lab, "seed=1,2,1") == ["seed=1", "seed=2"]
    assert labels(lab, "description=one,another") == ["description=one"]  # names no other training
    assert labels(lab, "optimizer=glob(*adam*)") == ["optimizer=adam", "optimizer=adamw"]
    assert labels(lab) == ["nba_scratch"]


def test_a_job_is_composed_as_a_single_run_is(lab: Path, compose: Callable[..., Experiment]) -> None:
    words = ["optimizer=adam,momentum", "model=mlp", "model.hidden_units=[3],[4]", "+limits.epochs=7", "seed=1"]
    jobs, _ = expand.jobs(lab, [*SMALL, *words])
    assert len(jobs) == 4
    for job in jobs:
        assert job.experiment == config.experiment(config.compose(lab, "train", job.overrides))


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["sede=1,2"], ConfigError, "Key 'sede' not in"),
        (["seed=1,two"], ConfigError, "seed=two: .*'two' of type 'str' could not be converted to Integer"),
        (["optimizer.learning_rate=0.1,-1"], ConfigError, "learning_rate=-1: .*expected more than 0; received -1"),
        (["seed=range(3,3)"], ConfigError, "expected at least one value; received none"),
        (["seed=glob(*)"], ConfigError, "expected at least one value; received none"),
        (["seed=choice()"], ConfigError, "empty choice"),
        (["seed=interval(0,1)"], ConfigError, "expected a list of values; received an interval"),
        (["seed=[1,2"], ConfigError, "no viable alternative"),
        (["data=nba,fashion_mnist", "model=mlp"], DataError, "data=fashion_mnist: .*dvc repro"),
        (["engine.batch_configs=true"], ConfigError, "expected engine.array=jax"),
        (["engine=keras", "engine.batch_configs=true"], ConfigError, "'batch_configs' not in 'KerasEngine'"),
    ],
)
def test_what_cannot_be_swept_is_one_line(lab: Path, words: list[str], error: type[TwinnetError], told: str) -> None:
    with pytest.raises(error, match=told):
        expand.jobs(lab, [*SMALL, *words])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sede=1,2"], "Key 'sede' not in 'SingleRun'"),
        (["seed=1,2", "objective=valid/mae"], "objective: expected one of valid/loss, valid/accuracy"),
        (["seed=1,2", "objective=test/loss"], "objective: expected one of valid/loss, valid/accuracy"),
        (["seed=1,2", "hydra/launcher=slurm"], "hydra/launcher.*slurm"),
        (["seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=many"], "'many' of type 'str'"),
        (["seed=1,2", "hydra/launcher=submitit_slurm"], "submitit_slurm: expected"),
    ],
)
def test_nothing_starts_where_the_command_line_is_wrong(sweep, lab: Path, words: list[str], told: str) -> None:
    ended = sweep("tracking=none", *words)
    assert ended.status == 1
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("error: ")
    assert told.split(".*")[0] in ended.err
    assert not (lab / "outputs").exists()


def test_together_means_nothing_to_one_run(here) -> None:
    ended = here(train.main, "engine.batch_configs=true")
    assert (ended.status, len(ended.err.splitlines())) == (1, 1)
    assert "expected a sweep" in ended.err


def test_a_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for launcher, wanted in (("ray", "'twinnet\\[ray\\]'"), ("submitit_local", "'twinnet\\[slurm\\]'")):
        with pytest.raises(ConfigError, match=f"hydra/launcher={launcher}: .* not installed; run pip install {wanted}"):
            launchers.check(launcher, {})


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere.invalid:1", "127.0.0.1"])
def test_a_ray_cluster_that_does_not_answer(address: str) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        settings = {"ray": {"init": {"address": address.format(port=closed.getsockname()[1])}}}
        with pytest.raises(ConfigError, match="expected a Ray cluster there; it does not answer"):
            launchers.check("ray", settings)


def test_jobs_share_the_cores() -> None:
    cores = launchers.cpu_count()
    assert launchers.threads("joblib", {"n_jobs": -1}) == 1
    assert launchers.threads("joblib", {"n_jobs": 1}) == cores
    assert launchers.threads("ray", {"ray": {"remote": {"num_cpus": 3}}}) == 3
    assert launchers.threads("basic", {}) is None
    assert launchers.at_once("submitit_local", {"cpus_per_task": 1}) == cores


def test_a_result_belongs_to_configuration_data_and_code(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(*words: str) -> str:
        return expand.jobs(lab, [*SMALL, *words])[0][0].key

    first = key()
    assert key("description=other", "engine.threads=1", "limits.epochs=20") == first
    assert len({first, key("seed=1"), key("epochs=21"), key("limits.epochs=7"), key("engine.dtype=float32")}) == 5
    together = ["engine=scratch", "engine.dtype=float64"]
    assert key(*together, "engine.batch_configs=true") == key(*together)
    table = lab / "data" / "processed" / "nba" / "table.csv"
    content = table.read_text()
    table.write_text(content.replace("0\n", "1\n", 1))
    assert key() != first
    table.write_text(content)
    assert key() == first
    monkeypatch.setattr(fingerprint, "version", lambda engine: "edited")
    assert key() != first
    assert cache.find(first, lab) is None


def test_the_code_of_a_result_is_what_a_training_imports() -> None:
    names = {
        file.relative_to(fingerprint.PACKAGE).as_posix() for file in fingerprint.modules("twinnet.engines.scratch")
    }
    assert {"training.py", "engines/scratch/layers.py", "engines/scratch/together.py", "data/reading.py"} <= names
    assert not {name for name in names if name.startswith(("engines/keras", "tracking", "sweeps", "data/download"))}
