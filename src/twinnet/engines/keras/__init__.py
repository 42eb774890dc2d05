"""The Keras engine: the same description as a Keras 3 model, on TensorFlow or JAX (engine.backend).

Keras, and with it a backend, is imported when a training or a saved model asks for it.
"""

from pathlib import Path

from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import Backend, KerasEngine
from twinnet.engines.keras import backend


def fit(problem: Problem, monitor: Monitor) -> TrainedNetwork:
    """Train `problem` as engines/contract.py says.

    Raises DivergedError, through the monitor, and ConfigError where this process already uses another backend.
    """
    assert isinstance(problem.engine, KerasEngine)
    backend.load(problem.engine)
    from twinnet.engines.keras import training

    return training.fit(problem, monitor)


def load(path: Path) -> TrainedNetwork:
    """A network that `FittedNetwork.save` wrote, on the backend that this process uses (TensorFlow where none yet)."""
    backend.load(KerasEngine(backend=backend.loaded() or Backend.tensorflow))
    from twinnet.engines.keras.model import KerasNetwork

    return KerasNetwork.load(path)
