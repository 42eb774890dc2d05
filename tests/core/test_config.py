"""conf/ composes, for the suite and for single runs, and params.yaml is what it composes to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from twinnet.core import config
from twinnet.core.network import build_network
from twinnet.core.schema import Experiment

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml"))


@pytest.fixture(scope="module")
def suite(root: Path) -> DictConfig:
    return config.compose(root)


def test_params_yaml_is_the_composition_of_conf(root: Path, suite: DictConfig) -> None:
    composed = yaml.safe_load(OmegaConf.to_yaml(suite))
    assert yaml.safe_load((root / "params.yaml").read_text()) == composed, "run `make params`"


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_under_its_own_name(name: str, compose: Callable[..., Experiment]) -> None:
    experiment = compose(name)
    assert experiment.name == name
    assert experiment.description
    assert build_network(experiment).parameters() > 0


def test_an_experiment_is_the_same_in_the_suite_and_alone(
    suite: DictConfig, compose: Callable[..., Experiment]
) -> None:
    for name, node in suite.experiments.items():
        assert config.experiment(node) == compose(str(name))


def test_the_suite_survives_a_round_trip_through_params_yaml(suite: DictConfig) -> None:
    read_back = yaml.safe_load(OmegaConf.to_yaml(suite))
    for name, node in suite.experiments.items():
        assert config.experiment(read_back["experiments"][name]) == config.experiment(node)
        assert config.plain(config.experiment(node)) == read_back["experiments"][name]
    for name, node in suite.datasets.items():
        assert config.dataset(read_back["datasets"][name]) == config.dataset(node)


def test_every_experiment_reads_a_data_set_of_the_suite(suite: DictConfig) -> None:
    for experiment in suite.experiments.values():
        assert experiment.data.name in suite.datasets


def test_group_of_one_experiment_is_swapped_in_the_suite(compose_suite: Callable[..., DictConfig]) -> None:
    suite = compose_suite("model@experiments.fashion_dense.model=cnn")
    assert suite.experiments.fashion_dense.model.kind == "cnn"
    assert suite.experiments.fashion_dense_book.model.kind == "mlp"


@pytest.mark.parametrize(
    ("words", "overruled"),
    [
        (["optimizer=momentum"], {"optimizer.learning_rate": "0.001 of experiment=nba_scratch is used, not 0.01 of"}),
        (["optimizer=momentum", "optimizer.learning_rate=0.5"], {}),
        (["optimizer=adam"], {}),  # has the experiment's value
        (["engine=scratch_numpy"], {}),
        (["model=mlp_book.yaml"], {}),
        (["optimizer=schema/adam", "optimizer.schedule.kind=cosine"], {}),
        ([], {}),
    ],
)
def test_overruled_values_of_a_chosen_group_are_named(root: Path, words: list[str], overruled: dict[str, str]) -> None:
    words = ["experiment=nba_scratch", *words]
    found = config.overruled(root, words, config.experiment(config.compose(root, "train", words)))
    assert found.keys() == overruled.keys()
    assert all(text in found[key] for key, text in overruled.items())


def test_rate_without_a_point_is_a_number(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "conf", tmp_path / "conf")
    (tmp_path / "conf/optimizer/own.yaml").write_text("defaults: [schema/adam@_here_, _self_]\nlearning_rate: 1e-3\n")
    words = ["experiment=nba_scratch", "optimizer=own"]
    assert config.overruled(tmp_path, words, config.experiment(config.compose(tmp_path, "train", words))) == {}


WORDS = st.text() | st.sampled_from(["true", "Null", "nan", "INF", "1e-3", "T-shirt/top"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
KEYS = st.from_regex("key[a-z0-9_]*", fullmatch=True)
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))


@settings(deadline=None, max_examples=200)
@given(NESTED)
def test_hydra_reads_an_override_as_the_value(value: object) -> None:
    parsed = OverridesParser.create().parse_override(f"key={config.to_override(value)}").value()
    assert parsed == value
    assert type(parsed) is type(value)


def test_smoke_profile_caps_every_experiment(compose_suite: Callable[..., DictConfig]) -> None:
    suite = compose_suite("profile=smoke")
    for node in suite.experiments.values():
        limits = config.experiment(node).limits
        assert (limits.epochs, limits.samples) == (suite.profile.epochs, suite.profile.samples)
        assert limits.epochs
        assert limits.samples


def test_mnist_is_trained_by_naming_it(compose: Callable[..., Experiment]) -> None:
    assert compose("fashion_cnn", "data=mnist").data.name == "mnist"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("nba_scratch", 17), ("nba_keras", 17), ("fashion_dense_book", 335_114), ("fashion_dense_scratch", 335_114)],
)
def test_parameter_counts_of_the_chapter(name: str, parameters: int, compose: Callable[..., Experiment]) -> None:
    assert build_network(compose(name)).parameters() == parameters
