"""Configuration: composed by Hydra from conf/, checked here, returned as plain dataclasses.

`compose` gives the suite (conf/config.yaml) or a single run (conf/train.yaml); `experiment` and `dataset` turn the
part that a stage or a job needs into a validated object. Nothing after them sees Hydra or OmegaConf.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from twinnet.core import rules, schema, search_schema
from twinnet.core.errors import ConfigError
from twinnet.core.explain import check_files, check_keys, check_overrides, explain, explained, unknown_key
from twinnet.core.schema import Compare, Dataset, Experiment, Tracking

Part = TypeVar("Part")

# A text that an override of Hydra needs no quotes for, and reads as a text.
PLAIN_TEXT = re.compile(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_][A-Za-z0-9_/.-]*")

# The groups of conf/ whose members differ by `kind`: group -> base class.
BASES: dict[str, type] = {
    "data": schema.Data,
    "dataset": schema.Dataset,
    "model": schema.Model,
    "engine": schema.Engine,
    "optimizer": schema.Optimizer,
}


def kinds(group: str) -> dict[str, type[Any]]:
    """Return kind -> dataclass for a group: every subclass of its base that names a kind."""
    found, bases = {}, [BASES[group]]
    for base in bases:
        bases += base.__subclasses__()
        if (kind := vars(base).get("kind", MISSING)) != MISSING:
            found[kind] = base
    return found


@cache
def register() -> None:
    """Make the schema known to Hydra: `schema/<kind>` in each group, and the roots."""
    store = ConfigStore.instance()
    store.store(name="suite_schema", node=schema.Suite)
    store.store(name="single_run_schema", node=schema.SingleRun)
    store.store(name="search_run_schema", node=search_schema.SearchRun)
    for group in BASES:
        for kind, node in kinds(group).items():
            store.store(group=f"{group}/schema", name=kind, node=node)


def compose(root: Path, name: str = "config", overrides: Sequence[str] = (), *, skip_swept: bool = False) -> DictConfig:
    """Compose conf/<name>.yaml under `root` with Hydra overrides and resolve it; `skip_swept` those of several values.

    Raises ConfigError, in one line, for a key, a value or an option that does not exist.
    """
    return _compose(root, name, overrides, skip_swept)[-1]


def run(root: Path, name: str, overrides: Sequence[str], task: Callable[[DictConfig], Any]) -> None:
    """Run `task` with the composed experiment as `hydra.main` does, which would compose three times.

    Raises ConfigError before anything is written.
    """
    hydra, composed, resolved = _compose(root, name, overrides)
    experiment(resolved)
    hydra.compose_config = lambda **_: composed  # type: ignore[method-assign]  # it has no argument for a composition
    hydra.run(name, task, [*overrides])


def _compose(
    root: Path, name: str, overrides: Sequence[str], skip_swept: bool = False
) -> tuple[Hydra, DictConfig, DictConfig]:
    """Return Hydra, its composition, and the composition without Hydra's own part, resolved."""
    register()
    GlobalHydra.instance().clear()
    conf = (root / "conf").resolve()
    with explained(conf):
        check_files(conf)
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        parsed = [override for override in parsed if not (skip_swept and override.is_sweep_override())]
        check_overrides(conf, parsed)
        with initialize_config_dir(str(conf), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            composed = hydra_compose(name, [str(override.input_line) for override in parsed], return_hydra_config=True)
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        return hydra, composed, resolve(own)


def resolve(composed: DictConfig) -> DictConfig:
    """Resolve what Hydra has composed, in place. Raises ConfigError for an unknown key or a setting out of range."""
    OmegaConf.resolve(composed)
    check_keys(composed)
    for key in ("profile", "tracking", "search"):
        if key in composed:
            rules.check_values(OmegaConf.to_object(composed[key]), f"{key}.")
    for key in ("objective", "max_jobs"):
        if key in composed:
            rules.check_value(schema.SingleRun, key, composed[key])
    return composed


def experiment(node: Mapping[str, Any] | DictConfig, *, allow_batch: bool = False) -> Experiment:
    """Return a validated experiment from its composed configuration or its part of params.yaml.

    `allow_batch` allows what only makes sense for a job of a sweep. Raises ConfigError.
    """
    checked = _typed(schema.Experiment, node, groups=("data", "model", "engine", "optimizer"))
    rules.check(checked, allow_batch)
    return checked


def dataset(node: Mapping[str, Any] | DictConfig) -> Dataset:
    """Return a validated description of a data set. Raises ConfigError."""
    checked = _typed(_kind("dataset", _mapping(node)), node, groups=("reading",))
    rules.check_dataset(checked)
    return checked


def compare(node: Mapping[str, Any] | DictConfig) -> Compare:
    """Return validated settings of a comparison. Raises ConfigError."""
    checked = _typed(schema.Compare, node, groups=())
    rules.check_values(checked, "compare.")
    return checked


def tracking(node: Mapping[str, Any] | DictConfig) -> Tracking:
    """Return validated settings of the tracking. Raises ConfigError."""
    checked = _typed(schema.Tracking, node, groups=())
    rules.check_values(checked, "tracking.")
    return checked


def overruled(root: Path, words: Sequence[str], experiment: Experiment) -> dict[str, str]:
    """Return key -> one line for each value of a member of a group, chosen in `words`, that the experiment overrules.

    Values that `words` set themselves, and defaults of the schema, are left out.
    """
    chosen = {
        override.key_or_group: override.value() for override in OverridesParser.create().parse_overrides([*words])
    }
    source = f"experiment={chosen['experiment']}" if "experiment" in chosen else "the experiment"
    used, lines = plain(experiment), {}
    for group, member in chosen.items():
        if group in BASES and group in used and isinstance(member, str):
            for key, own, value in differences(_file_values(root / "conf" / group, member), used[group], f"{group}."):
                if key not in chosen:
                    lines[key] = (
                        f"{key}: {to_override(value)} of {source} is used, not {to_override(own)} of {group}={member}; "
                        f"add {key}={to_override(own)} for that"
                    )
    return lines


def _file_values(folder: Path, member: str) -> dict[str, Any]:
    """Return what a file of a group and the files of its defaults list write; the schema is no file."""
    file = folder / f"{member.removesuffix('.yaml')}.yaml"
    if not file.is_file():
        return {}
    values: Any = OmegaConf.to_container(OmegaConf.load(file)) or {}
    bases = [name for name in values.pop("defaults", []) if isinstance(name, str)]
    return {key: value for base in bases for key, value in _file_values(folder, base).items()} | values


def differences(own: Mapping[str, Any], used: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key of both that has another value, with its values."""
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(used.get(key), dict):
            yield from differences(value, used[key], f"{prefix}{key}.")
        elif key in used and used[key] != value and "${" not in str(value):
            yield f"{prefix}{key}", value, used[key]


def to_override(value: Any) -> str:
    """Return the value as an override of Hydra writes it: `[8,8]`, `true`, `null`, `0.1`, `'two words'`."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{to_override(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(to_override, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str) and not PLAIN_TEXT.fullmatch(value):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)


def plain(part: Any) -> dict[str, Any]:
    """Return the dataclass as nested dictionaries of plain values, as they stand in YAML."""

    def value(item: Any) -> Any:
        if isinstance(item, Enum):
            return item.value  # PyYAML writes a StrEnum as a Python object
        if isinstance(item, dict):
            return {key: value(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [value(inner) for inner in item]
        return item

    return value(asdict(part))


def _kind(group: str, node: Mapping[str, Any]) -> type[Any]:
    kind, known = node.get("kind"), kinds(group)
    if kind not in known:
        raise ConfigError(f"{group}.kind: expected one of {', '.join(known)}; received {kind!r}")
    return known[kind]


def _mapping(node: object, key: str = "") -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if not isinstance(values, Mapping):
        received = "none" if values == MISSING or values is None else str(values)[:60]
        raise ConfigError(f"{key}expected keys with values; received {received}")
    return {str(name): value for name, value in values.items()}


def _typed(base: type[Part], node: Mapping[str, Any] | DictConfig, groups: Sequence[str]) -> Part:
    values = _mapping(node)
    names = {field.name for field in fields(base)}  # type: ignore[arg-type]  # a dataclass of the schema
    more = {field.name for field in fields(search_schema.SearchRun)} if base is Experiment else set()
    if unknown := sorted(values.keys() - names - more):
        raise ConfigError(unknown_key(unknown[0], sorted(names), node))
    known = {key: value for key, value in values.items() if key in names}
    try:
        kinds: Any = [
            _kind("data" if group == "reading" else group, _mapping(known.get(group), f"{group}: ")) for group in groups
        ]
        key: Any = (base, tuple(zip(groups, kinds, strict=True)))
        typed = _schema(*key)
        checked: Any = OmegaConf.to_object(OmegaConf.merge(typed, known))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    return checked


@cache
def _schema(base: type[Any], groups: tuple[tuple[str, type[Any]], ...]) -> DictConfig:
    """Return the typed defaults; made once for each combination of kinds, which takes longer than merging values."""
    typed = OmegaConf.structured(base)
    for group, kind in groups:
        typed[group] = OmegaConf.structured(kind)
    return typed
