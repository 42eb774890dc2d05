"""Typed schema of conf/search.yaml and conf/search/: the search space, the sampler, the pruner and the storage."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from twinnet.core.errors import ConfigError
from twinnet.core.schema import SingleRun


class DimensionKind(StrEnum):
    number = "number"
    integer = "integer"
    choice = "choice"


class Sampler(StrEnum):
    tpe = "tpe"
    random = "random"
    grid = "grid"


class Pruner(StrEnum):
    none = "none"
    median = "median"
    hyperband = "hyperband"


@dataclass
class Dimension:
    """The values of one key: from `low` to `high`, both included, or one of `choices`."""

    kind: DimensionKind = MISSING  # of the values
    low: float | None = None  # of a number
    high: float | None = None  # of a number
    log: bool = False  # draw the logarithm evenly
    step: float | None = None  # between two values; a number needs it for a grid
    choices: list[Any] = field(default_factory=list)  # as on the command line: numbers, words, lists


@dataclass
class Search:
    """conf/search/: the search space, and how it is searched."""

    study: str = MISSING  # name of the study; the same name resumes its trials
    storage: str = "sqlite:///optuna.db"  # postgresql://user@host/database if several machines search together
    space: dict[str, Dimension] = MISSING  # key -> its values
    sampler: Sampler = Sampler.tpe  # how trials are drawn
    seed: int = 0  # of the sampler
    pruner: Pruner = Pruner.median  # which unpromising trials are stopped early
    pruned_after: float = 0.1  # fraction of the epochs that a trial may train before it can be pruned
    trials: int = 50  # of the whole study, those of other processes included
    processes: int = 1  # on this machine


@dataclass
class SearchRun(SingleRun):
    """conf/search.yaml: conf/train.yaml with a search."""

    search: Search = field(default_factory=Search)


def check(search: Search) -> None:
    """Raise ConfigError for a space without values or a search that cannot run."""
    if not search.space:
        raise ConfigError("search.space: expected at least one key; received none")
    for key, dimension in search.space.items():
        _check(f"search.space.{key}", dimension)
        if search.sampler is Sampler.grid:
            values(key, dimension)


def _check(name: str, dimension: Dimension) -> None:
    low, high = dimension.low, dimension.high
    if dimension.kind is DimensionKind.choice:
        if not dimension.choices:
            raise ConfigError(f"{name}.choices: expected at least one value; received none")
        return
    if low is None or high is None or not low <= high:
        raise ConfigError(f"{name}: expected low and high, low not above high; received low={low}, high={high}")
    if dimension.log and low <= 0:
        raise ConfigError(f"{name}: expected low above 0 with log=true; received {low}")
    if dimension.step is not None and (dimension.step <= 0 or dimension.log):
        raise ConfigError(f"{name}.step: expected a step above 0, and log=false; received {dimension.step}")
    numbers = (low, high, dimension.step or 1)
    if dimension.kind is DimensionKind.integer and not all(float(number).is_integer() for number in numbers):
        raise ConfigError(f"{name}: expected whole numbers; received low={low}, high={high}, step={dimension.step}")


def limits(dimension: Dimension) -> tuple[float, float]:
    """Return the lowest and the highest value of a dimension that has no choices."""
    assert dimension.low is not None
    assert dimension.high is not None
    return dimension.low, dimension.high


def values(key: str, dimension: Dimension) -> list[Any]:
    """Return every value of the dimension, for a grid. Raises ConfigError if there are infinitely many."""
    if dimension.kind is DimensionKind.choice:
        return list(dimension.choices)
    low, high = limits(dimension)
    whole = dimension.kind is DimensionKind.integer
    step = dimension.step or (1 if whole else None)
    if step is None:
        raise ConfigError(f"search.space.{key}: expected a step, or choices, for search.sampler=grid; received neither")
    count = math.floor((high - low) / step + 1e-9) + 1
    points = [low + step * index for index in range(count)]
    return [int(point) for point in points] if whole else points
