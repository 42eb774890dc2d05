"""Two engines for one description: `scratch`, written by hand, and `keras`."""

from importlib import import_module

from twinnet.core.checks import check
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork


def fit(problem: Problem, monitor: Monitor) -> TrainedNetwork:
    """Train with the engine that the problem names. Only that engine's libraries are imported."""
    check(problem)
    return import_module(f"twinnet.engines.{problem.engine.kind}").fit(problem, monitor)
