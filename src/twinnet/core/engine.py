"""Calls of an engine by its name; a call imports that engine's libraries alone."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from twinnet.core.checks import check
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import Engine


def fit(problem: Problem, monitor: Monitor) -> TrainedNetwork:
    """Train with the engine that the problem names. Raises ConfigError, DataError or DivergedError."""
    check(problem)
    return _module(problem.engine).fit(problem, monitor)


def gpus(engine: Engine) -> list[str]:
    """Return the names of the GPUs that the engine's library finds."""
    return _module(engine).gpus(engine)


def load(engine: Engine, file: Path) -> TrainedNetwork:
    """Read the model that `TrainedNetwork.save` wrote, on the engine's library if the process uses none yet."""
    return _module(engine).load(file, engine)


def _module(engine: Engine) -> ModuleType:
    return import_module(f"twinnet.engines.{engine.kind}")
