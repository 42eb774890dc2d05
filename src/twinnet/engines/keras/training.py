"""Training with Keras' own `fit`, recording a loss and a metric for each epoch of the problem.

The whole training is one pass of `fit`: nothing is set up again between epochs. Variables of the model sum losses and
metrics, and are read after each chunk of epochs: 100,000 epochs of one batch are 1,000 calls of 100 steps each.
"""

import logging
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import ops

from twinnet.core.history import Arrays, Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import BatchNorm, Conv2D, Dense, Dropout
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, Backend, Dtype, KerasEngine, Loss
from twinnet.engines.keras import backend, build, optimizers
from twinnet.engines.keras.calls import calls
from twinnet.engines.keras.model import ROWS, KerasNetwork
from twinnet.engines.keras.targets import has_soft_targets, targets
from twinnet.engines.keras.training_model import EpochMetrics, TaskMetric, TrainingModel

log = logging.getLogger(__name__)

FEW_STEPS = 50  # in one call: a training can be interrupted between calls


def fit(problem: Problem, monitor: Monitor) -> KerasNetwork:
    """Train on problem.device; the backend is loaded already. Raises DivergedError through the monitor."""
    engine = problem.engine
    assert isinstance(engine, KerasEngine)
    with backend.scope(problem.device), _warnings_as_one_line():
        policy = "mixed_bfloat16" if engine.mixed_precision else engine.dtype.value
        network = build.build_model(problem.network, problem.weights, engine.dtype.value, problem.seed, policy)
        trained = _on_backend(engine.backend).fuse_normalization(network) if _fuses(problem, engine) else network
        model = _compiled(trained, problem, engine)
        reporter = MonitorCallback(problem, monitor, model)
        if monitor.history.epochs < problem.epochs:
            planned = calls(problem, _steps_per_call(problem, engine), monitor.history.epochs)
            reporter.steps_done = [call.stop for call in planned]
            batches = _on_backend(engine.backend).batches(model, planned)
            model.fit(batches, callbacks=[reporter], shuffle=False, verbose=0)
        if reporter.best is not None:
            model.set_weights(reporter.best)
        if trained is not network:
            network.set_weights(trained.get_weights())
    return KerasNetwork(network, problem.device)


def _on_backend(backend: Backend) -> ModuleType:
    return import_module(f"twinnet.engines.keras.{backend.value}_training")  # imports JAX or TensorFlow


def _compiled(network: keras.Model, problem: Problem, engine: KerasEngine) -> TrainingModel:
    output, dtype = problem.network.layers[-1], engine.dtype.value
    assert isinstance(output, Dense)
    outputs, from_logits = build.loss_inputs(network, problem.loss, output.activation)
    model: TrainingModel = _on_backend(engine.backend).LoopingModel(network.input, outputs)
    model.problem = problem
    model.objective = _loss(problem, output.activation, from_logits, dtype)
    model.task_metric = TaskMetric(problem.task, 0.0 if from_logits else 0.5)
    model.epoch_metrics = EpochMetrics(len(next(problem.chunks())), problem.steps_per_epoch, dtype)
    model.valid_metrics = EpochMetrics(1, problem.steps_per_epoch, dtype)
    model.compile(optimizers.build_optimizer(problem, model, dtype), jit_compile=_jit_compile(problem, engine))
    return model


def _jit_compile(problem: Problem, engine: KerasEngine) -> bool:
    """Whether XLA compiles the steps: always for JAX, which is slow without it."""
    if engine.jit_compile is not None:
        return engine.jit_compile
    return engine.backend is Backend.jax or problem.device == "gpu" or not _is_slow_in_xla(problem)


def _fuses(problem: Problem, engine: KerasEngine) -> bool:
    """Whether TensorFlow's kernel normalises images: it has none for float64, and XLA fuses Keras' own operations."""
    if engine.backend is not Backend.tensorflow or engine.dtype is Dtype.float64 or _jit_compile(problem, engine):
        return False
    return _has(problem, Conv2D) and _has(problem, BatchNorm)


def _is_slow_in_xla(problem: Problem) -> bool:
    """On a CPU its convolutions and random numbers are several times slower than TensorFlow's own."""
    return _has(problem, Conv2D, Dropout)


def _steps_per_call(problem: Problem, engine: KerasEngine) -> int:
    """How many steps one call makes in its loop, at most.

    All of a chunk, but few for convolutions, whose steps are long beside the call, and where something is drawn for
    each step; a CPU convolves slowly in JAX's loop.
    """
    if engine.steps_per_execution is not None:
        return engine.steps_per_execution
    convolves = _has(problem, Conv2D)
    if convolves and problem.device == "cpu" and engine.backend is Backend.jax:
        return 1
    return FEW_STEPS if convolves or not problem.full_batch else _steps_per_chunk(problem)


def _steps_per_chunk(problem: Problem) -> int:
    return len(next(problem.chunks())) * problem.steps_per_epoch


def _has(problem: Problem, *kinds: type) -> bool:
    return any(isinstance(layer, kinds) for layer in problem.network.layers)


def _loss(problem: Problem, activation: Activation, from_logits: bool, dtype: str) -> keras.losses.Loss:
    match problem.loss:
        case Loss.binary_crossentropy:
            return keras.losses.BinaryCrossentropy(from_logits=from_logits, dtype=dtype)
        case Loss.categorical_crossentropy if has_soft_targets(problem):
            return keras.losses.CategoricalCrossentropy(from_logits=from_logits, dtype=dtype)
        case Loss.categorical_crossentropy if activation is Activation.softmax:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, dtype=dtype)
        case Loss.categorical_crossentropy:  # of one sigmoid unit: nothing is learned, and Keras warns of it
            return keras.losses.CategoricalCrossentropy(dtype=dtype)
        case Loss.mean_squared_error:
            return keras.losses.MeanSquaredError(dtype=dtype)


class MonitorCallback(keras.callbacks.Callback):
    """Reports each chunk to the monitor, stops if it returns True, and keeps the best weights and checkpoints."""

    steps_done: Sequence[int]  # of the training, after each batch that Keras counts

    def __init__(self, problem: Problem, monitor: Monitor, model: TrainingModel) -> None:
        super().__init__()
        self.set_model(model)
        self.monitor, self.averaged = monitor, problem.ema is not None
        self.best: list[np.ndarray] | None = None
        self._resume()
        X, y = problem.X_valid, targets(problem, problem.y_valid)
        self.valid = [
            (ops.convert_to_tensor(X[start : start + ROWS]), ops.convert_to_tensor(y[start : start + ROWS]))
            for start in range(0, len(X), ROWS)
        ]
        done = monitor.history.epochs
        self.ends = deque(chunk.stop * problem.steps_per_epoch for chunk in problem.chunks() if chunk.stop > done)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.steps_done[min(batch, len(self.steps_done) - 1)] < self.ends[0]:  # Keras counts the last call as whole
            return
        losses, metrics = self.model.epoch_metrics.read()  # `self.model` takes its state back from JAX
        self.ends.popleft()
        with self._average():
            valid_loss, valid_metric = self._evaluate()  # resets the records
            self.model.stop_training = self.monitor(Chunk(losses, metrics, valid_loss, valid_metric))
            if self.monitor.improved:
                self.best = self.model.get_weights()
        if self.ends and not self.model.stop_training:
            self.monitor.save_if_due(self._state)

    @contextmanager
    def _average(self) -> Iterator[None]:
        """Swap in the averaged weights, if the problem has `ema`, and restore the raw ones at the end."""
        if not self.averaged:
            yield
            return
        variables = self.model.trainable_variables
        raw = [ops.convert_to_numpy(variable) for variable in variables]
        self.model.optimizer.finalize_variable_values(variables)
        for variable in variables:  # copies, as JAX reuses the memory of what it evaluates
            variable.assign(np.array(variable))
        yield
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)

    def _state(self) -> Arrays:
        """Weights, running averages, the optimizer's state and that of the dropout's random numbers."""
        values = [ops.convert_to_numpy(variable) for variable in self._variables()]
        best = {f"best/{i}": value for i, value in enumerate(self.best or [])}
        return {f"state/{i}": value for i, value in enumerate(values)} | best

    def _resume(self) -> None:
        saved = self.monitor.resume()
        if saved is None:
            return
        for i, variable in enumerate(self._variables()):
            variable.assign(saved[f"state/{i}"])
        if "best/0" in saved:
            self.best = [saved[f"best/{i}"] for i in range(len(self.model.get_weights()))]

    def _variables(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _evaluate(self) -> tuple[float, float]:
        totals = np.zeros(2)
        for X, y in self.valid:
            self.model.test_on_batch(X, y)
            totals += np.ravel(self.model.valid_metrics.read()) * len(y)
        loss, metric = totals / sum(len(y) for _, y in self.valid)
        return float(loss), float(metric)


@contextmanager
def _warnings_as_one_line() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    lines = {(warning.filename, warning.lineno): " ".join(str(warning.message).split()) for warning in caught}
    if lines:
        log.warning("Keras: %s", "; ".join(lines.values()))
