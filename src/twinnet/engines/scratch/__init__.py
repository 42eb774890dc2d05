"""The engine written by hand: forward and back propagation, losses and optimizers as pure functions over arrays.

Read `layers`, `activations`, `losses`, `optimizers`, then `propagation`, which puts a training step together. The same
functions run on NumPy (`reference`) and are compiled by JAX (`compiled`).
"""

from twinnet.config.schema import ArrayLibrary, ScratchEngine
from twinnet.engines.contract import Monitor, Problem
from twinnet.engines.scratch.arrays import outward
from twinnet.engines.scratch.fitted import Fitted, load
from twinnet.engines.scratch.loop import Trainer, train
from twinnet.engines.scratch.propagation import gather

__all__ = ["Fitted", "fit", "load"]


def fit(problem: Problem, monitor: Monitor) -> Fitted:
    """Train with `problem.engine.array`. Raises DivergedError where the loss is no longer finite."""
    return Fitted(problem.network, _weights(problem, train(problem, _trainer(problem), monitor)))


def _trainer(problem: Problem) -> Trainer:
    assert isinstance(problem.engine, ScratchEngine)
    if problem.engine.array is ArrayLibrary.numpy:
        from twinnet.engines.scratch.reference import Reference

        return Reference(problem)
    from twinnet.engines.scratch.compiled import Compiled

    return Compiled(problem)


def _weights(problem: Problem, parameters: list) -> list:
    network = problem.network
    shapes = [layer.weight_shapes(shape) for layer, shape in zip(network.layers, network.shapes(), strict=False)]
    return outward(gather(network.layers, [*parameters, {}]), shapes)
