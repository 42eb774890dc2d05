"""The engine written by hand: forward and back propagation, losses and optimizers as pure functions over arrays.

Read `layers`, `activations`, `losses`, `optimizers`, then `step`, which joins them to a training step. The same
functions run on NumPy (`numpy_trainer`) and are compiled by JAX (`jax_trainer`).
"""

import logging
from collections.abc import Sequence

from twinnet.core.checks import check
from twinnet.core.errors import DivergedError
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem
from twinnet.core.schema import ArrayLibrary, Engine, ScratchEngine
from twinnet.engines.scratch.arrays import from_engine_layout
from twinnet.engines.scratch.model import ScratchNetwork, load
from twinnet.engines.scratch.step import collapse_weights
from twinnet.engines.scratch.trainer import Trainer, train

log = logging.getLogger(__name__)

__all__ = ["ScratchNetwork", "fit", "fit_batched", "gpus", "load"]


def gpus(engine: Engine) -> list[str]:
    """Return the names of the GPUs that JAX finds; NumPy finds none."""
    assert isinstance(engine, ScratchEngine)
    if engine.array is ArrayLibrary.numpy:
        return []
    from twinnet.engines.scratch import jax_trainer  # 0.7 s: JAX

    return jax_trainer.gpus()


def fit(problem: Problem, monitor: Monitor) -> ScratchNetwork:
    """Train with `problem.engine.array`. Raises DivergedError if the loss is no longer finite."""
    return ScratchNetwork(problem.network, _weights(problem, train(problem, _trainer(problem), monitor)))


def fit_batched(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> list[ScratchNetwork | DivergedError]:
    """Train many problems at once on the cores of this machine, each compiled, whatever its engine.array.

    Return for each the network that `fit` would return, bit for bit (on a GPU within rounding), or the DivergedError
    that ended it, which stops none of the others. Problems of one shape share one compiled program.
    """
    from twinnet.engines.scratch.batched import train_batched  # 0.7 s: JAX

    for problem in problems:
        check(problem)
    return [
        outcome if isinstance(outcome, DivergedError) else ScratchNetwork(problem.network, _weights(problem, outcome))
        for problem, outcome in zip(problems, train_batched(problems, monitors), strict=True)
    ]


def _trainer(problem: Problem) -> Trainer:
    assert isinstance(problem.engine, ScratchEngine)
    if problem.engine.array is ArrayLibrary.numpy:
        from twinnet.engines.scratch.numpy_trainer import NumpyTrainer  # 0.1 s: threadpoolctl

        return NumpyTrainer(problem)
    from twinnet.engines.scratch.jax_trainer import JaxTrainer  # 0.7 s: JAX

    if (problem.engine.threads or 1) > 1:
        log.warning("engine.threads=%d: JAX chooses its threads; ignored", problem.engine.threads)
    return JaxTrainer(problem)


def _weights(problem: Problem, parameters: list) -> list:
    network = problem.network
    shapes = [layer.weight_shapes(shape) for layer, shape in zip(network.layers, network.shapes(), strict=False)]
    return from_engine_layout(collapse_weights(network.layers, [*parameters, {}]), shapes)
