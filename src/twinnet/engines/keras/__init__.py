"""The Keras engine: the same description as a Keras 3 model, on TensorFlow or JAX (engine.backend).

Importing this package imports neither Keras nor a backend: `fit`, `gpus` and `load` do.
"""

from pathlib import Path

from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import Backend, Engine, KerasEngine
from twinnet.engines.keras import backend


def fit(problem: Problem, monitor: Monitor) -> TrainedNetwork:
    """Train `problem` as core/problem.py says.

    Raises DivergedError, through the monitor, and ConfigError if this process already uses another backend.
    """
    assert isinstance(problem.engine, KerasEngine)
    backend.load(problem.engine)
    from twinnet.engines.keras import training  # 3 s: Keras and its backend

    return training.fit(problem, monitor)


def gpus(engine: Engine) -> list[str]:
    """Return the names of the GPUs that the engine's backend finds."""
    assert isinstance(engine, KerasEngine)
    return backend.gpus(engine)


def load(path: Path, engine: Engine | None = None) -> TrainedNetwork:
    """Read a network that `TrainedNetwork.save` wrote, on the backend that this process uses.

    If it uses none yet: on that of `engine`, or else on TensorFlow.
    """
    present = backend.loaded()
    if present is None and isinstance(engine, KerasEngine):
        backend.load(engine)
    else:
        backend.load(KerasEngine(backend=present or Backend.tensorflow))
    from twinnet.engines.keras.model import KerasNetwork  # 3 s: Keras and its backend

    return KerasNetwork.load(path)
