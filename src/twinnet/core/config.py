"""Configuration: composed by Hydra from conf/, checked here, handed on as plain dataclasses.

`compose` gives the suite (conf/config.yaml) or a single run (conf/train.yaml); `experiment` and `dataset` turn the
part that a stage or a job needs into a validated object. Nothing after them sees Hydra or OmegaConf.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from twinnet.core import dataset_rules, rules, schema, search_schema
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Compare, Dataset, Experiment

Part = TypeVar("Part", Experiment, Dataset, Compare)

# The groups whose members are told apart by `kind`: group of conf/ -> kind -> dataclass.
KINDS: dict[str, dict[str, type]] = {
    "data": {node.kind: node for node in (schema.TableData, schema.ImageData)},
    "dataset": {node.kind: node for node in (schema.NBADataset, schema.ImageDataset, schema.TableDataset)},
    "model": {node.kind: node for node in (schema.MLP, schema.CNN, schema.ResNet)},
    "engine": {node.kind: node for node in (schema.ScratchEngine, schema.KerasEngine)},
    "optimizer": {
        node.kind: node
        for node in (
            schema.GradientDescent,
            schema.Momentum,
            schema.Nesterov,
            schema.RMSprop,
            schema.Adam,
            schema.AdamW,
        )
    },
}


def register() -> None:
    """Make the schema known to Hydra: `schema/<kind>` in each group, and the roots."""
    store = ConfigStore.instance()
    store.store(name="suite_schema", node=schema.Suite)
    store.store(name="single_run_schema", node=schema.SingleRun)
    store.store(name="search_run_schema", node=search_schema.SearchRun)
    for group, kinds in KINDS.items():
        for kind, node in kinds.items():
            store.store(group=f"{group}/schema", name=kind, node=node)


def compose(root: Path, name: str = "config", overrides: Sequence[str] = ()) -> DictConfig:
    """Compose conf/<name>.yaml under `root` with Hydra overrides and resolve it.

    Raises ConfigError, in one line, for a key, a value or an option that does not exist.
    """
    register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str((root / "conf").resolve()), version_base="1.3"):
            composed = hydra_compose(name, list(overrides))
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(rules.explain(error)) from error
    return composed


def experiment(node: Mapping[str, Any] | DictConfig, *, sweep: bool = False) -> Experiment:
    """A validated experiment from its composed configuration or its part of params.yaml.

    `sweep` allows what only makes sense for a job of a sweep. Raises ConfigError.
    """
    checked = _typed(schema.Experiment, node, groups=("data", "model", "engine", "optimizer"))
    rules.check(checked, sweep)
    return checked


def dataset(node: Mapping[str, Any] | DictConfig) -> Dataset:
    """A validated data set description, likewise."""
    checked = _typed(_kind("dataset", node), node, groups=("reading",))
    dataset_rules.check_dataset(checked)
    return checked


def compare(node: Mapping[str, Any] | DictConfig) -> Compare:
    """Validated settings of a comparison, likewise."""
    checked = _typed(schema.Compare, node, groups=())
    rules.check_compare(checked)
    return checked


def plain(part: Any) -> dict[str, Any]:
    """The dataclass as nested dictionaries of plain values, as they stand in YAML."""

    def value(item: Any) -> Any:
        if isinstance(item, Enum):
            return item.value
        if isinstance(item, dict):
            return {key: value(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [value(inner) for inner in item]
        return item

    return value(asdict(part))


def _kind(group: str, node: Mapping[str, Any] | DictConfig) -> type[Any]:
    kind, kinds = node.get("kind"), KINDS[group]
    if kind not in kinds:
        raise ConfigError(f"{group}.kind: expected one of {', '.join(kinds)}; received {kind!r}")
    return kinds[kind]


def _typed(base: type[Part], node: Mapping[str, Any] | DictConfig, groups: Sequence[str]) -> Part:
    values: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    known = {key: value for key, value in values.items() if key in base.__dataclass_fields__}
    try:
        typed = OmegaConf.structured(base)
        for group in groups:
            kind = _kind("data" if group == "reading" else group, known.get(group) or {})
            typed[group] = OmegaConf.structured(kind)
        checked: Any = OmegaConf.to_object(OmegaConf.merge(typed, known))
    except OmegaConfBaseException as error:
        raise ConfigError(rules.explain(error)) from error
    return checked
