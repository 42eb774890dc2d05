"""Values of conf/dataset/ that cannot be used are one line, before anything is downloaded."""

from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from twinnet.core import config
from twinnet.core.errors import ConfigError


@pytest.fixture(scope="module")
def datasets(compose_suite: Callable[..., DictConfig]) -> DictConfig:
    return compose_suite().datasets


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nba.name=../../x", r"datasets.name: expected at most 100 letters.*; received"),
        ("nba.name=''", r"datasets.name: expected"),
        ("nba.name=.hidden", r"datasets.name: expected"),
        (f"nba.name={'n' * 101}", r"datasets.name: expected"),
        ("nba.reading.name=mnist", r"datasets.nba.reading.name: expected nba; received mnist"),
        ("nba.transport.retries=-1", r"datasets.nba.transport.retries: expected 0 to 100; received -1"),
        ("nba.transport.max_redirects=-1", r"transport.max_redirects: expected 0 to 100; received -1"),
        ("nba.transport.total_timeout=nan", r"transport.total_timeout: expected .*; received (nan|inf)"),
        ("nba.transport.total_timeout=inf", r"transport.total_timeout: expected .*; received (nan|inf)"),
        (
            "nba.transport.read_timeout=0",
            r"transport.read_timeout: expected more than 0, at most 86400 seconds; received 0",
        ),
        ("nba.transport.backoff=-1", r"transport.backoff: expected 0 to 86400 seconds; received -1"),
        ("nba.transport.patience=inf", r"transport.patience: expected"),
        ("nba.transport.max_bytes=0", r"transport.max_bytes: expected at least 1; received 0"),
        ("nba.sources.upstream.interval=-1", r"datasets.nba.sources.upstream.interval: expected"),
        ("nba.max_left_out=nan", r"datasets.nba.max_left_out: expected .*; received (nan|1)"),
        ("nba.max_left_out=1", r"max_left_out: expected .*; received (nan|1)"),
        ("nba.season=1995", r"datasets.nba.season: expected 1996 to 2100; received 1995"),
        ("nba.seasons=[]", r"datasets.nba.seasons: expected a list of 1 to 100 numbers, each 1996 to 2100"),
        ("nba.players.regular_season=[750,350]", r"players: expected"),
        ("nba.players.regular_season=[350]", r"players: expected"),
        (
            "mnist.arrays.X_train.shape=[-1,28,28]",
            r"datasets.mnist.arrays.X_train.shape: expected",
        ),
        ("mnist.arrays.y_train.shape=[10000]", r"arrays.y_train.shape: expected \[60000\], .*; received \[10000\]"),
        (
            "mnist.arrays.y_test.shape=[10000,10]",
            r"arrays.y_test.shape: expected \[10000\], .*; received \[10000, 10\]",
        ),
        ("mnist.arrays.X_train.file=other", r"arrays.X_train.file: expected one of .*; received 'other'"),
        ("mnist.files={../x: abc}", r"datasets.mnist.files: expected paths inside the folder .*; received .*"),
        ("mnist.files={/etc/x: abc}", r"datasets.mnist.files: expected paths inside"),
        ("mnist.files={.x: abc}", r"datasets.mnist.files: expected paths inside"),
        ("mnist.arrays.X_train.shape=[]", r"arrays.X_train.shape: expected"),
    ],
)
def test_value_that_cannot_be_used_is_one_line(override: str, message: str, datasets: DictConfig) -> None:
    changed, parsed = datasets.copy(), OverridesParser.create().parse_override(override)
    OmegaConf.update(changed, parsed.key_or_group, parsed.value(), merge=False)
    with pytest.raises(ConfigError, match=message) as raised:
        config.dataset(changed[override.partition(".")[0]])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        "~datasets.mnist.arrays.y_train",
        "~datasets.mnist.arrays.X_test",
        "+datasets.mnist.arrays.X_valid=${datasets.mnist.arrays.X_test}",
    ],
)
def test_arrays_are_pairs_of_training_and_test(change: str, compose_suite: Callable[..., DictConfig]) -> None:
    suite = compose_suite(change)
    with pytest.raises(ConfigError, match=r"datasets.mnist.arrays: expected X_train and y_train, and both or none of"):
        config.dataset(suite.datasets.mnist)
