"""params.yaml is conf/config.yaml composed: `write` makes it so, `check` (the first stage) insists on it.

python -m pipelines.params write [override ...]     e.g. profile=smoke
python -m pipelines.params check
"""

import os
import sys
from pathlib import Path

from omegaconf import OmegaConf

from twinnet.core import config
from twinnet.core.errors import ConfigError
from twinnet.core.stage import stage

PARAMS = Path("params.yaml")
CHECKED = Path("build/params_checked.txt")
HEADER = "# conf/config.yaml composed; written by `make params`, never edited. Overrides:"


def text(overrides: list[str]) -> str:
    """What params.yaml has to hold; raises ConfigError where an experiment or data set cannot be used."""
    composed = config.compose(Path(), "config", overrides)
    for node in composed.experiments.values():
        config.experiment(node)
    for node in composed.datasets.values():
        config.dataset(node)
    return " ".join([HEADER, *overrides]) + "\n" + OmegaConf.to_yaml(composed)


def write(overrides: list[str]) -> None:
    composed = text(overrides)
    if not PARAMS.exists() or PARAMS.read_text() != composed:
        PARAMS.write_text(composed)


def check() -> None:
    """Raise ConfigError where params.yaml is stale; `dvc exp run`, which sets DVC_EXP_NAME, has just composed it."""
    if "DVC_EXP_NAME" not in os.environ:
        first = PARAMS.read_text().partition("\n")[0]
        overrides = first.removeprefix(HEADER).split() if first.startswith(HEADER) else []
        received, expected = OmegaConf.load(PARAMS), OmegaConf.create(text(overrides))
        if stale := _differences(OmegaConf.to_container(expected), OmegaConf.to_container(received)):
            raise ConfigError(
                f"params.yaml is not the composition of conf/: {'; '.join(stale[:3])}"
                f"{f' and {len(stale) - 3} more' if len(stale) > 3 else ''}; run `make params`"
            )
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text("params.yaml is the composition of conf/\n")


def _differences(expected: object, received: object, key: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(received, dict):
        found = []
        for name in expected.keys() | received.keys():
            found += _differences(expected.get(name), received.get(name), f"{key}.{name}".lstrip("."))
        return sorted(found)
    return [] if expected == received else [f"{key} is {received!r} where conf/ says {expected!r}"]


with stage():
    match sys.argv[1:]:
        case ["write", *overrides]:
            write(overrides)
        case ["check"]:
            check()
        case received:
            raise ConfigError(f"expected `write [override ...]` or `check`; received {' '.join(received)!r}")
