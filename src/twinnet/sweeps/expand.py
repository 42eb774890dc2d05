"""Expansion of a command line into jobs, each checked before the first one starts."""

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from twinnet.core import config
from twinnet.core.errors import ConfigError, TwinnetError
from twinnet.core.explain import check_files, check_overrides, explain, explained
from twinnet.core.schema import Experiment, ScratchEngine
from twinnet.sweeps import cache
from twinnet.sweeps.job import Job


class Composer:
    """Composes conf/<name>.yaml with many sets of overrides, a few milliseconds each.

    Hydra composes each set of config files once (0.15 to 0.3 s); overrides that only set values are applied to copies,
    by Hydra's own function.
    """

    def __init__(self, root: Path, name: str = "train") -> None:
        config.register()
        self.conf, self.name = root / "conf", name
        self.loader = ConfigLoaderImpl(create_config_search_path(str(self.conf.resolve())))
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.choices: dict[str, str] = {}  # group of conf/ -> its member in the latest set of files

    def __call__(self, overrides: Sequence[Override]) -> DictConfig:
        """Return the composed configuration, resolved. Raises ConfigError in one line."""
        files, values = split_overrides(overrides, self.conf)
        with explained(self.conf):
            check_overrides(self.conf, overrides)
            if files not in self.composed:
                check_files(self.conf)
                self.composed[files] = self._load(files)
            composed = copy.deepcopy(self.composed[files])
            ConfigLoaderImpl._apply_overrides_to_config(values, composed)
            return config.resolve(composed)

    def experiment(self, words: Sequence[str]) -> Experiment:
        """Return the validated experiment. Raises ConfigError."""
        return config.experiment(self(parse(words)))

    def _load(self, files: Sequence[str]) -> DictConfig:
        composed = self.loader.load_configuration(self.name, list(files), RunMode.RUN, from_shell=False)
        self.choices = dict(composed.hydra.runtime.choices)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        OmegaConf.set_struct(composed, True)
        return composed


# (folder of the sweep, overrides that choose files) -> configuration, for the jobs that this process runs
_COMPOSED: dict[tuple[str, tuple[str, ...]], DictConfig] = {}


class JobConfigLoader(ConfigLoaderImpl):
    """Hydra's config loader as launchers call it for each job; composes like `Composer`."""

    def __init__(self, conf: Path) -> None:
        super().__init__(create_config_search_path(str(conf.resolve())))
        self.conf = conf

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        overrides = parse(sweep_overrides)
        files, values = split_overrides(overrides, self.conf)
        composed = (str(master_config.hydra.sweep.dir), files)
        if composed not in _COMPOSED:
            _COMPOSED[composed] = super().load_sweep_config(master_config, list(files))
        job_config = copy.deepcopy(_COMPOSED[composed])
        ConfigLoaderImpl._apply_overrides_to_config(values, job_config)
        with open_dict(job_config):
            job_config.hydra.overrides.task = list(sweep_overrides)
            job_config.hydra.output_subdir = None  # the run has its configuration
            job_config.hydra.job.override_dirname = ",".join(sorted(sweep_overrides))
        return job_config


def split_overrides(overrides: Sequence[Override], conf: Path) -> tuple[tuple[str, ...], list[Override]]:
    """Return the overrides that choose a file of conf/, as `optimizer=adam` does, and those that set a value."""
    files, values = [], []
    for override in overrides:
        if (conf / override.key_or_group).is_dir() and not isinstance(override.value(), dict):
            files.append(override.input_line or "")
        else:
            values.append(override)
    return tuple(files), values


def parse(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse overrides; `loader` resolves `glob`. Raises ConfigError if Hydra's grammar does not allow them."""
    try:
        return OverridesParser.create(loader).parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(explain(error)) from error


def expand(overrides: Sequence[Override], max_jobs: int) -> list[dict[str, str]]:
    """Return override key -> value as written, swept or not, for each combination of the swept values.

    Raises ConfigError for an empty list of values, for `interval`, and, before anything is expanded, for too many.
    """
    counts = {override.input_line: _n_values(override) for override in overrides}
    for line, count in counts.items():
        if not count:
            raise ConfigError(f"{line}: expected at least one value; received none, an empty grid")
    if (n_jobs := math.prod(counts.values())) > max_jobs:
        swept = " ".join(str(line) for line, count in counts.items() if count > 1)
        raise ConfigError(
            f"{swept}: expected at most {max_jobs} jobs; received {n_jobs}; use fewer values, or max_jobs={n_jobs}"
        )
    values = {
        override.get_key_element(): list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
        for override in overrides
    }
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def _n_values(override: Override) -> int:
    """Return the number of values without listing those of a range."""
    if not override.is_sweep_override():
        return 1
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: expected a list of values; received an interval")
    sweep = override.value()
    if isinstance(sweep, RangeSweep):
        if not sweep.step:
            raise ConfigError(f"{override.input_line}: expected a step other than 0; received 0")
        assert sweep.start is not None
        assert sweep.stop is not None
        return max(0, math.ceil((sweep.stop - sweep.start) / sweep.step))
    return len(list(override.sweep_string_iterator()))


def expand_jobs(root: Path, words: Sequence[str]) -> tuple[list[Job], DictConfig]:
    """Return the jobs of the sweep, each training once, and the composed configuration of the first.

    Raises ConfigError or DataError for the first job that cannot be trained, naming its values.
    """
    composer = Composer(root)
    overrides = parse(words, composer.loader)
    fixed = [override for override in overrides if not override.is_sweep_override()]
    files, values = split_overrides(fixed, composer.conf)
    limit = [*parse(files), *(override for override in values if override.key_or_group == "max_jobs")]
    points = expand(overrides, composer(limit).max_jobs)
    swept = [name for name in points[0] if len({point[name] for point in points}) > 1]
    jobs, first = dict[str, Job](), None
    for point in points:
        job_words = tuple(f"{name}={value}" for name, value in point.items())
        swept_values = {name.lstrip("+~"): point[name] for name in swept}
        try:
            composed = composer(parse(job_words))
            job = build_job(composed, job_words, swept_values, root)
        except TwinnetError as error:
            where = " ".join(f"{name}={value}" for name, value in swept_values.items())
            raise type(error)(f"{where}: {error}" if where else str(error)) from error
        jobs.setdefault(job.key, job)
        first = composed if first is None else first
    assert first is not None
    return list(jobs.values()), first


def build_job(composed: DictConfig, overrides: tuple[str, ...], swept: dict[str, str], root: Path) -> Job:
    """Return the job of a composed configuration. Raises ConfigError or DataError if it cannot be trained."""
    experiment, is_batched = config.experiment(composed, allow_batch=True), False
    if isinstance(experiment.engine, ScratchEngine):
        is_batched = experiment.engine.batch_configs
        experiment = replace(experiment, engine=replace(experiment.engine, batch_configs=False))
    return Job(overrides, swept, experiment, cache.key(experiment, root), is_batched)


def single_run_words(root: Path, name: str, words: Sequence[str]) -> list[str]:
    """Return the overrides with which conf/train.yaml composes the experiment of conf/<name>.yaml with `words`."""
    composer, single = Composer(root, name), Composer(root)
    wanted = config.plain(composer.experiment(words))
    chosen = [f"experiment={composer.choices['experiment']}"]
    single.experiment(chosen)
    chosen += [
        f"{group}={composer.choices[group]}"
        for group in ("profile", *config.BASES)
        if composer.choices.get(group) != single.choices.get(group)
    ]
    base = config.plain(single.experiment(chosen))
    changes = [(key, value) for key, value, _ in config.differences(wanted, base) if key != "description"]
    return chosen + [f"{key}={config.to_override(value)}" for key, value in changes]
