"""params.yaml is conf/config.yaml composed: `write` makes it so, `check` (the first stage) insists on it.

python -m pipelines.params write [override ...]     e.g. profile=smoke
python -m pipelines.params check

Both leave build/experiments/<name>.yaml: what a training depends on, so that a word in a description retrains nothing.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from twinnet.core import config, paths, rules
from twinnet.core.errors import ConfigError
from twinnet.core.stage import PARAMS, params, stage

CHECKED = Path("build/params_checked.txt")  # of constant content: an edited experiment downloads nothing again
EXPERIMENTS = Path("build/experiments")
HEADER = "# Generated: conf/config.yaml composed by `make params`; edit conf/, never this file. Overrides:"
DESCRIBING = ("description",)  # keys of an experiment that its training does not depend on


def write(overrides: list[str]) -> None:
    """Compose params.yaml; it stays as it is if the composition is refused."""
    composed = compose(overrides)
    text = f"{HEADER} {shlex.join(overrides)}".rstrip() + "\n" + OmegaConf.to_yaml(composed)
    if not PARAMS.exists() or PARAMS.read_text(encoding="utf-8") != text:
        paths.write_text(PARAMS, text)
    write_experiments(OmegaConf.to_container(composed, enum_to_str=True))


def check() -> None:
    """Raise ConfigError if params.yaml is stale; `dvc exp run`, which sets DVC_EXP_NAME, has just composed it."""
    received = params()
    if "DVC_EXP_NAME" in os.environ:
        validate(OmegaConf.create(received))
    else:
        expected = OmegaConf.to_container(compose(overrides_of(PARAMS)), enum_to_str=True)
        if stale := _differences(expected, received):
            raise ConfigError(
                f"params.yaml is not the composition of conf/: {'; '.join(stale[:3])}"
                f"{f' and {len(stale) - 3} more' if len(stale) > 3 else ''}; run `make params`"
            )
    write_experiments(received)
    paths.write_text(CHECKED, "params.yaml is the composition of conf/\n")


def compose(overrides: list[str]) -> DictConfig:
    """Return conf/config.yaml composed. Raises ConfigError if an experiment or a data set of it cannot be used."""
    composed = config.compose(Path(), "config", overrides)
    validate(composed)
    return composed


def validate(composed: Any) -> None:
    """Raise ConfigError for the first experiment, data set or setting that cannot be used."""
    for node in composed.experiments.values():
        rules.check_file(config.experiment(node).data)
    for node in composed.datasets.values():
        rules.check_file(config.dataset(node).reading)
    config.compare(composed.compare)


def overrides_of(file: Path) -> list[str]:
    """Return the overrides that params.yaml was composed with, which its first line holds."""
    first = file.read_text(encoding="utf-8-sig").partition("\n")[0].strip()
    try:
        return shlex.split(first.removeprefix(HEADER)) if first.startswith(HEADER) else []
    except ValueError as error:
        raise ConfigError(
            f"params.yaml: expected overrides in its first line; received {error}; run `make params`"
        ) from error


def write_experiments(composed: Any) -> None:
    """Write each experiment without what describes it; files that stay the same are not touched."""
    wanted = {
        EXPERIMENTS / f"{name}.yaml": {key: value for key, value in node.items() if key not in DESCRIBING}
        for name, node in composed["experiments"].items()
    }
    for file in set(EXPERIMENTS.glob("*.yaml")) - wanted.keys():
        file.unlink()
    for file, values in wanted.items():
        text = yaml.safe_dump(values, sort_keys=False)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            paths.write_text(file, text)


def _differences(expected: object, received: object, key: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(received, dict):
        found = []
        for name in expected.keys() | received.keys():
            found += _differences(expected.get(name), received.get(name), f"{key}.{name}".lstrip("."))
        return sorted(found)
    return [] if expected == received else [f"{key} is {received!r}; conf/ says {expected!r}"]


with stage():
    match sys.argv[1:]:
        case ["write", *overrides]:
            write(overrides)
        case ["check"]:
            check()
        case arguments:
            raise ConfigError(f"expected `write [override ...]` or `check`; received {shlex.join(arguments)!r}")
