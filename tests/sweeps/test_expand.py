"""Expansion of a sweep: every job, and every mistake in one line, before any job starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sweeps.commands import SMALL
from twinnet import search, train
from twinnet.core import config
from twinnet.core.errors import ConfigError, DataError, TwinnetError
from twinnet.core.schema import Experiment
from twinnet.sweeps import cache, expand, launchers
from twinnet.training import fingerprint

pytestmark = pytest.mark.xdist_group("sweeps")


def labels(sweep_project: Path, *words: str) -> list[str]:
    return [job.label for job in expand.expand_jobs(sweep_project, [*SMALL, *words])[0]]


def test_grid_is_every_combination_once(sweep_project: Path) -> None:
    assert labels(sweep_project, "seed=1,2", "optimizer.learning_rate=0.1,0.01") == [
        f"seed={seed} optimizer.learning_rate={rate}" for seed in (1, 2) for rate in (0.1, 0.01)
    ]
    assert (
        labels(sweep_project, "seed=range(0,3)", "model.hidden_units=[4],[8,8]")[-1]
        == "seed=2 model.hidden_units=[8,8]"
    )
    assert labels(sweep_project, "seed=1,2,1") == ["seed=1", "seed=2"]
    assert labels(sweep_project, "description=one,another") == ["description=one"]  # names no other training
    assert labels(sweep_project, "optimizer=glob(*adam*)") == ["optimizer=adam", "optimizer=adamw"]
    assert labels(sweep_project) == ["nba_scratch"]


def test_job_is_composed_as_a_single_run_is(sweep_project: Path, compose: Callable[..., Experiment]) -> None:
    words = ["optimizer=adam,momentum", "model=mlp", "model.hidden_units=[3],[4]", "+limits.epochs=7", "seed=1"]
    jobs, _ = expand.expand_jobs(sweep_project, [*SMALL, *words])
    assert len(jobs) == 4
    for job in jobs:
        assert job.experiment == config.experiment(config.compose(sweep_project, "train", job.overrides))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["sede=1,2"], ConfigError, "sede: expected a key of conf/.*use seed"),
        (["seed=1,two"], ConfigError, "seed=two: .*seed: expected a whole number; received two"),
        (["optimizer.learning_rate=0.1,-1"], ConfigError, "learning_rate=-1: .*expected more than 0; received -1"),
        (["seed=range(0,5,0)"], ConfigError, "expected a step other than 0; received 0"),
        (["seed=range(3,3)"], ConfigError, "expected at least one value; received none"),
        (["seed=glob(*)"], ConfigError, "expected at least one value; received none"),
        (["seed=choice()"], ConfigError, "empty choice"),
        (["seed=interval(0,1)"], ConfigError, "expected a list of values; received an interval"),
        (["seed=null"], ConfigError, "seed: expected a value; received null"),
        (["seed=range(0,1000000000)"], ConfigError, "at most 10000 jobs; received 1000000000; .* max_jobs=1000000000"),
        (["seed=range(0,200)", "epochs=1,2", "max_jobs=399"], ConfigError, "at most 399 jobs; received 400"),
        (["seed=[1,2"], ConfigError, "no viable alternative"),
        (["data=nba,fashion_mnist", "model=mlp"], DataError, "data=fashion_mnist: .*dvc repro"),
        (["engine.batch_configs=true"], ConfigError, "expected engine.array=jax"),
        (["engine=keras", "engine.batch_configs=true"], ConfigError, "engine.batch_configs: expected one of"),
    ],
)
def test_invalid_sweep_is_one_line(
    sweep_project: Path, words: list[str], error: type[TwinnetError], message: str
) -> None:
    with pytest.raises(error, match=message):
        expand.expand_jobs(sweep_project, [*SMALL, *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sede=1,2"], "sede: expected a key of conf/"),
        (["seed=1,2", "objective=valid/mae"], "objective: expected one of valid/loss, valid/accuracy"),
        (["seed=1,2", "objective=test/loss"], "objective: expected one of valid/loss, valid/accuracy"),
        (["seed=1,2", "hydra/launcher=slurm"], "hydra/launcher.*slurm"),
        (
            ["seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=many"],
            "hydra.launcher.n_jobs: expected a whole number; received many",
        ),
        (["seed=1,2", "hydra/launcher=submitit_slurm"], "submitit_slurm: expected"),
        (
            ["seed=1,2", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=2"],
            "hydra.launcher.timeout_min=2: expected more than signal_delay_s",
        ),
    ],
)
def test_invalid_command_line_starts_nothing(sweep, sweep_project: Path, words: list[str], message: str) -> None:
    ended = sweep("tracking=none", *words)
    assert ended.status == 1
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("error: ")
    assert message.split(".*")[0] in ended.err
    assert not (sweep_project / "outputs").exists()


def test_single_run_cannot_be_batched(run_main) -> None:
    ended = run_main(train.main, "engine.batch_configs=true")
    assert (ended.status, len(ended.err.splitlines())) == (1, 1)
    assert "expected a sweep" in ended.err


def test_wrong_value_beside_an_option_of_hydra_is_one_line(run_main) -> None:
    for option in (["--cfg", "job"], ["--info", "config"], ["-m"]):
        ended = run_main(train.main, "experiment=nope", *option)
        assert (ended.status, ended.out, len(ended.err.splitlines())) == (1, "", 1)
        assert "error: experiment: expected one of " in ended.err


def test_command_of_a_job_has_no_key_of_its_sweep(sweep_project: Path) -> None:
    words = ["engine=scratch", "++engine.batch_configs=true", "++figures=true", "resume=false", "seed=1,2"]
    first, _ = expand.expand_jobs(sweep_project, words)[0]
    assert first.rerun_command == "python -m twinnet.train engine=scratch seed=1"


def test_launcher_settings_are_plain_values(sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the extra `ray`")

    def check(name: str, settings: dict) -> None:
        raise ConfigError(str(settings["ray"]["init"]["runtime_env"]))  # an OmegaConf node is not what Ray takes

    monkeypatch.setattr(launchers, "check", check)
    ended = sweep("seed=1,2", "hydra/launcher=ray", "+hydra.launcher.ray.init.runtime_env={env_vars: {A: b}}")
    assert ended.err == "error: {'env_vars': {'A': 'b'}}\n"


def test_single_run_words_name_what_a_search_file_changes(sweep_project: Path) -> None:
    text = "# @package _global_\ndefaults: [override /experiment: nba_scratch, override /optimizer: adam, _self_]\n"
    (sweep_project / "conf" / "search" / "mine.yaml").write_text(
        f"{text}epochs: 500\nsearch: {{study: mine, space: {{}}}}\n"
    )
    words = ["search=mine", "name=probe", "++search.trials=3", "tracking=none", "profile=smoke"]
    single = expand.single_run_words(sweep_project, "search", words)
    assert single == ["experiment=nba_scratch", "profile=smoke", "optimizer=adam", "name=probe", "epochs=500"]
    composed = config.experiment(config.compose(sweep_project, "train", single))
    assert composed == config.experiment(config.compose(sweep_project, "search", words))


def test_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for launcher, wanted in (("ray", r"-e '\.\[ray\]'"), ("submitit_local", r"-e '\.\[slurm\]'")):
        with pytest.raises(
            ConfigError, match=f"hydra/launcher={launcher}: .* not installed; run uv pip install {wanted}"
        ):
            launchers.check(launcher, {})


def test_search_without_optuna_is_one_line(run_main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ended = run_main(search.main, "search=nba")
    assert (ended.status, len(ended.err.splitlines())) == (1, 1)
    assert "search: expected the package optuna; it is not installed; run uv pip install -e '.[optuna]'" in ended.err


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere.invalid:1", "127.0.0.1"])
def test_ray_cluster_that_does_not_answer(address: str) -> None:
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
    assert launchers.max_parallel("submitit_local", {"cpus_per_task": 1}) == cores


def test_key_depends_on_configuration_data_and_code(sweep_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(*words: str) -> str:
        return expand.expand_jobs(sweep_project, [*SMALL, *words])[0][0].key

    first = key()
    assert key("description=other", "engine.threads=1", "limits.epochs=20") == first
    assert len({first, key("seed=1"), key("epochs=21"), key("limits.epochs=7"), key("engine.dtype=float32")}) == 5
    jax = ["engine=scratch", "engine.dtype=float64"]
    assert key(*jax, "engine.batch_configs=true") == key(*jax)
    table = sweep_project / "data" / "processed" / "nba" / "table.csv"
    content = table.read_text()
    table.write_text(content.replace("0\n", "1\n", 1))
    assert key() != first
    table.write_text(content)
    assert key() == first
    monkeypatch.setattr(fingerprint, "code_hash", lambda engine: "edited")
    assert key() != first
    assert cache.find(first, sweep_project) is None
