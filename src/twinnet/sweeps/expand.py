"""From a command line to jobs: the sweep is spelled out, and every job is checked before the first one starts."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from twinnet.core import config, rules
from twinnet.core.errors import ConfigError, TwinnetError
from twinnet.core.schema import Experiment, ScratchEngine
from twinnet.sweeps import cache


@dataclass(frozen=True)
class Job:
    """One point of the grid; `key` is its result key (see `results`)."""

    overrides: tuple[str, ...]  # as Hydra is given them
    swept: dict[str, str]  # swept key -> value, as written
    experiment: Experiment  # as it is trained by itself
    key: str
    together: bool = False  # with others of its shape

    @property
    def label(self) -> str:
        """`seed=3 optimizer.learning_rate=0.1`; the experiment's name where nothing is swept."""
        return " ".join(f"{key}={value}" for key, value in self.swept.items()) or self.experiment.name


class Composer:
    """Composes conf/train.yaml with many sets of overrides, a few milliseconds each.

    Hydra composes a set of config files (a third of a second); what only sets values is applied to copies of it, by the
    function of Hydra's that does the same.
    """

    def __init__(self, root: Path, name: str = "train") -> None:
        config.register()
        self.conf, self.name = root / "conf", name
        self.loader = ConfigLoaderImpl(create_config_search_path(str(self.conf.resolve())))
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Sequence[Override]) -> DictConfig:
        """The composed configuration, resolved. Raises ConfigError in one line."""
        try:
            files = tuple(override.input_line or "" for override in overrides if self._chooses_file(override))
            if files not in self.composed:
                self.composed[files] = self._load(files)
            composed = copy.deepcopy(self.composed[files])
            values = [override for override in overrides if not self._chooses_file(override)]
            ConfigLoaderImpl._apply_overrides_to_config(values, composed)
            OmegaConf.resolve(composed)
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise ConfigError(rules.explain(error)) from error
        return composed

    def _load(self, files: Sequence[str]) -> DictConfig:
        composed = self.loader.load_configuration(self.name, list(files), RunMode.RUN, from_shell=False)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        OmegaConf.set_struct(composed, True)
        return composed

    def _chooses_file(self, override: Override) -> bool:
        """Whether the override chooses a file of conf/, as `optimizer=adam` does."""
        return (self.conf / override.key_or_group).is_dir() and not isinstance(override.value(), dict)


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Raises ConfigError for what Hydra's grammar does not know; `loader` tells `glob` which files there are."""
    try:
        return OverridesParser.create(loader).parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(rules.explain(error)) from error


def expand(overrides: Sequence[str], loader: ConfigLoader) -> list[dict[str, str]]:
    """The grid: for each job, override key -> value as written, swept or not.

    Raises ConfigError for an empty list of values and for a sweep that is no list (`interval`).
    """
    values: dict[str, list[str]] = {}
    for override in parse(overrides, loader):
        name = override.get_key_element()
        if not override.is_sweep_override():
            values[name] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[name] = list(override.sweep_string_iterator())
        else:
            raise ConfigError(f"{override.input_line}: expected a list of values; received an interval")
        if not values[name]:
            raise ConfigError(f"{override.input_line}: expected at least one value; received none, an empty grid")
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def jobs(root: Path, overrides: Sequence[str]) -> tuple[list[Job], DictConfig]:
    """Every job of the sweep, checked, each result once, and the composed configuration of the first.

    Raises ConfigError or DataError for the first job that cannot be trained, naming its values.
    """
    composer, found, first = Composer(root), dict[str, Job](), None
    points = expand(overrides, composer.loader)
    swept = [name for name in points[0] if len({point[name] for point in points}) > 1]
    for point in points:
        written = tuple(f"{name}={value}" for name, value in point.items())
        told = {name.lstrip("+~"): point[name] for name in swept}
        try:
            composed = composer(parse(written))
            made = job(composed, written, told, root)
        except TwinnetError as error:
            where = " ".join(f"{name}={value}" for name, value in told.items())
            raise type(error)(f"{where}: {error}" if where else str(error)) from error
        found.setdefault(made.key, made)
        first = composed if first is None else first
    assert first is not None
    return list(found.values()), first


def job(composed: DictConfig, overrides: tuple[str, ...], swept: dict[str, str], root: Path) -> Job:
    """The job that a composed configuration describes. Raises ConfigError or DataError where it cannot be trained."""
    experiment, together = config.experiment(composed, sweep=True), False
    if isinstance(experiment.engine, ScratchEngine):
        together = experiment.engine.batch_configs
        experiment = replace(experiment, engine=replace(experiment.engine, batch_configs=False))
    return Job(overrides, swept, experiment, cache.key(experiment, root), together)


def settings(composed: DictConfig, name: str) -> Any:
    """A typed part of conf/train.yaml that belongs to the application, as `tracking`."""
    return OmegaConf.to_object(composed[name])
