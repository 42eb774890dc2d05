"""params.yaml is conf/config.yaml composed: `write` makes it so, `check` (the first stage) refuses another.

python -m pipelines.params write [override ...]      e.g. profile=smoke
python -m pipelines.params refresh [override ...]    as `write`, but values that `write` did not write are not lost
python -m pipelines.params check

All leave build/experiments/<name>.yaml and build/datasets/<name>.yaml, which the stages depend on: a word in a
description retrains nothing, and another experiment downloads nothing again.
"""

import hashlib
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from twinnet.core import config, paths, rules, schema
from twinnet.core.errors import ConfigError
from twinnet.core.stage import PARAMS, params, stage

BUILD = Path("build")
HEADER = "# Generated: conf/config.yaml composed by `make params`; edit conf/, never this file. Overrides:"
SHA256 = "# SHA-256 of what follows:"
MANY = 40  # differences, too many for a command line
DESCRIBING = ("description",)  # keys of an experiment that its training does not depend on


def write(overrides: list[str]) -> None:
    """Compose params.yaml; it stays as it is if the composition is refused."""
    _write(compose(overrides), overrides)


def _write(composed: DictConfig, overrides: list[str]) -> None:
    values = OmegaConf.to_yaml(composed)
    head = f"{HEADER} {shlex.join(overrides)}".rstrip()
    text = f"{head}\n{SHA256} {hashlib.sha256(values.encode()).hexdigest()}\n{values}"
    if not PARAMS.exists() or PARAMS.read_bytes() != text.encode():
        paths.write_text(PARAMS, text)
    write_parts(OmegaConf.to_container(composed, enum_to_str=True))


def refresh(overrides: list[str]) -> None:
    """Bring params.yaml up to date with conf/, with the overrides it was composed with if none are given.

    Raises ConfigError if it holds values that `write` did not write (an edit, or `dvc exp apply`) and conf/ lacks.
    """
    if not PARAMS.exists():
        write(overrides)
        return
    received, is_given = params(), bool(overrides)
    overrides = overrides or overrides_of(PARAMS)
    composed = compose(overrides)
    found = differences(OmegaConf.to_container(composed, enum_to_str=True), received)
    if found and not is_written(PARAMS):
        raise ConfigError(
            "params.yaml: expected what `make params` wrote; received other values, by hand or by DVC: "
            f"{summary(found)}; to keep them, {remedy(overrides, found, received)}; to take conf/'s, `make params`"
        )
    if overrides and not is_given:
        print(f"params.yaml: composed with {shlex.join(overrides)}, as before; `make params` takes that back")
    _write(composed, overrides)


def check() -> None:
    """Raise ConfigError if params.yaml is stale; `dvc exp run`, which sets DVC_EXP_NAME, has just composed it."""
    received = params()
    if "DVC_EXP_NAME" in os.environ:
        validate(received)
    else:
        expected = OmegaConf.to_container(compose(overrides_of(PARAMS)), enum_to_str=True)
        if found := differences(expected, received):
            raise ConfigError(f"params.yaml is not the composition of conf/: {summary(found)}; run `make params`")
    write_parts(received)


def compose(overrides: list[str]) -> DictConfig:
    """Return conf/config.yaml composed. Raises ConfigError if an experiment or a data set of it cannot be used."""
    composed = config.compose(Path(), "config", overrides)
    validate(composed)
    return composed


def validate(composed: Any) -> None:
    """Raise ConfigError for the first experiment, data set or setting that cannot be used."""
    config.compare(composed["compare"])
    config.tracking(composed["tracking"])
    for part in ("experiments", "datasets"):
        for name, node in composed[part].items():
            try:
                rules.check_value(schema.Experiment, "name", str(name))
                valid = config.experiment(node).data if part == "experiments" else config.dataset(node).reading
                rules.check_file(valid)
            except ConfigError as error:
                place, text = f"{part}.{name}", str(error)
                raise ConfigError(text if text.startswith(f"{place}.") else f"{place}: {text}") from error


def overrides_of(file: Path) -> list[str]:
    """Return the overrides that params.yaml was composed with, which its first line holds."""
    first = file.read_text(encoding="utf-8-sig").partition("\n")[0].strip()
    try:
        return shlex.split(first.removeprefix(HEADER)) if first.startswith(HEADER) else []
    except ValueError as error:
        raise ConfigError(
            f"params.yaml: expected overrides in its first line; received {error}; run `make params`"
        ) from error


def write_parts(composed: Any) -> None:
    """Write each data set, and each experiment without what describes it; files that stay the same are not touched."""
    wanted = {BUILD / "datasets" / f"{name}.yaml": node for name, node in composed["datasets"].items()}
    for name, node in composed["experiments"].items():
        values = {key: value for key, value in node.items() if key not in DESCRIBING}
        wanted[BUILD / "experiments" / f"{name}.yaml"] = values
    for file in {*BUILD.glob("experiments/*.yaml"), *BUILD.glob("datasets/*.yaml")} - wanted.keys():
        file.unlink()
    for file, values in wanted.items():
        text = yaml.safe_dump(values, sort_keys=False)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            paths.write_text(file, text)


def is_written(file: Path) -> bool:
    """Whether the values in the file are those that `write` left there, possibly of an older conf/."""
    lines = file.read_text(encoding="utf-8-sig").split("\n", 2)
    digest = hashlib.sha256(lines[-1].encode()).hexdigest()
    return len(lines) == 3 and lines[0].startswith(HEADER) and lines[1] == f"{SHA256} {digest}"


Difference = tuple[str, Any, Any]  # key, the value in params.yaml, the value in conf/


def differences(expected: object, received: object, key: str = "") -> list[Difference]:
    if isinstance(expected, dict) and isinstance(received, dict):
        found = []
        for name in sorted(expected.keys() | received.keys(), key=str):
            found += differences(expected.get(name), received.get(name), f"{key}.{name}".lstrip("."))
        return found
    return [] if expected == received else [(key, received, expected)]


def remedy(overrides: list[str], found: list[Difference], values: dict[str, Any]) -> str:
    """Return how to keep the values of params.yaml: a command, if there is one that composes them and fits a line."""
    overrides = [*overrides, *(f"{key}={config.to_override(value)}" for key, value, _ in found)]
    words = shlex.join(overrides)
    if len(found) <= MANY and words == " ".join(words.split()):
        with suppress(ConfigError):  # as for a key that holds a dot
            if OmegaConf.to_container(compose(overrides), enum_to_str=True) == values:
                return f"`make params S={shlex.quote(words).replace('$', '$$')}`"
    return "write them into conf/"


def summary(found: list[Difference]) -> str:
    text = "; ".join(f"{key} is {received!r}; conf/ says {expected!r}" for key, received, expected in found[:3])
    return text + (f" and {len(found) - 3} more" if len(found) > 3 else "")


if __name__ == "__main__":
    with stage():
        match sys.argv[1:]:
            case ["write", *overrides]:
                write(overrides)
            case ["refresh", *overrides]:
                refresh(overrides)
            case ["check"]:
                check()
            case arguments:
                received = shlex.join(arguments)
                raise ConfigError(
                    f"expected write [override ...], refresh [override ...] or check; received {received!r}"
                )
