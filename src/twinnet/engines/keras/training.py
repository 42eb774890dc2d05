"""Training with Keras' own `fit`, recording a loss and a metric for each epoch of the problem.

The whole training is one pass of `fit`: nothing is set up again between epochs. Variables of the model sum losses and
metrics, and are read after each chunk of epochs: 100,000 epochs of one batch are 1,000 calls of 100 steps each.
"""

import logging
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from twinnet.core.history import Arrays, Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.network import Conv2D, Dense, Dropout
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, Backend, KerasEngine, Loss, Task
from twinnet.engines.keras import backend, build, optimizers
from twinnet.engines.keras.batches import batches, has_soft_targets, targets
from twinnet.engines.keras.model import ROWS, KerasNetwork

log = logging.getLogger(__name__)

CONVOLUTIONAL_STEPS = 50  # in one call: a training can be interrupted between calls


def fit(problem: Problem, monitor: Monitor) -> KerasNetwork:
    """Train on problem.device; the backend is loaded already. Raises DivergedError through the monitor."""
    engine = problem.engine
    assert isinstance(engine, KerasEngine)
    with backend.scope(problem.device), _warnings_as_one_line():
        policy = "mixed_bfloat16" if engine.mixed_precision else engine.dtype.value
        network = build.build_model(problem.network, problem.weights, engine.dtype.value, problem.seed, policy)
        trained = _compiled(network, problem, engine)
        reporter = MonitorCallback(problem, monitor, trained)
        if monitor.history.epochs < problem.epochs:
            trained.fit(batches(problem, monitor.history.epochs), callbacks=[reporter], shuffle=False, verbose=0)
        if reporter.best is not None:
            trained.set_weights(reporter.best)
    return KerasNetwork(network, problem.device)


def _compiled(network: keras.Model, problem: Problem, engine: KerasEngine) -> "TrainingModel":
    output, dtype = problem.network.layers[-1], engine.dtype.value
    assert isinstance(output, Dense)
    outputs, from_logits = build.loss_inputs(network, problem.loss, output.activation)
    trained = TrainingModel(network.input, outputs)
    chunk = len(next(problem.chunks()))
    trained.objective = _loss(problem, output.activation, from_logits, dtype)
    trained.task_metric = TaskMetric(problem.task, 0.0 if from_logits else 0.5)
    trained.epoch_metrics = EpochMetrics(chunk, problem.steps_per_epoch, dtype)
    trained.valid_metrics = EpochMetrics(1, problem.steps_per_epoch, dtype)
    convolutional = any(isinstance(layer, Conv2D) for layer in problem.network.layers)
    trained.compile(
        optimizers.build_optimizer(problem, trained, dtype),
        jit_compile=_jit_compile(problem) if engine.jit_compile is None else engine.jit_compile,
        steps_per_execution=_steps_per_execution(engine, chunk * problem.steps_per_epoch, convolutional),
    )
    return trained


def _jit_compile(problem: Problem) -> bool:
    """Whether XLA compiles the steps: always for JAX, which is slow without it.

    On a CPU its convolutions and random numbers are several times slower than TensorFlow's own.
    """
    slow = any(isinstance(layer, Conv2D | Dropout) for layer in problem.network.layers)
    return keras.backend.backend() == "jax" or problem.device == "gpu" or not slow


def _steps_per_execution(engine: KerasEngine, steps: int, convolutional: bool) -> int:
    """How many of a chunk's `steps` one call into the backend makes: a divisor, so that a chunk ends with a call.

    TensorFlow makes all of them at once, and few for convolutions, whose steps are long beside the call. Keras on JAX
    makes one call a step whatever is asked for.
    """
    most = engine.steps_per_execution
    if most is None:
        most = 1 if engine.backend is Backend.jax else CONVOLUTIONAL_STEPS if convolutional else steps
    return max(divisor for divisor in range(1, min(most, steps) + 1) if steps % divisor == 0)


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


class TaskMetric:
    """The task's metric over a batch: accuracy, or the mean absolute error for regression.

    `threshold` separates the two classes of a binary task: 0.5 for probabilities, 0 for logits.
    """

    def __init__(self, task: Task, threshold: float) -> None:
        self.task, self.threshold = task, threshold

    def __call__(self, y: Any, outputs: Any) -> Any:
        match self.task:
            case Task.regression:
                return ops.mean(ops.absolute(outputs - y))
            case Task.binary:
                right = ops.equal(outputs > self.threshold, y > 0.5)
            case Task.multiclass:
                classes = y if len(y.shape) == 1 else ops.argmax(y, axis=-1)
                right = ops.equal(ops.argmax(outputs, axis=-1), ops.cast(classes, "int32"))
        return ops.mean(ops.cast(right, outputs.dtype))


class EpochMetrics(keras.metrics.Metric):
    """Sums of loss and metric over the samples of each epoch of a chunk, added up where the training computes."""

    def __init__(self, epochs: int, steps_per_epoch: int, dtype: str) -> None:
        super().__init__(dtype, "record")
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.step = self.add_variable((), "zeros", "int32", name="step")
        self.sums = self.add_variable((3, epochs), "zeros", dtype, name="sums")  # loss, metric, samples

    def update_state(self, loss: Any, metric: Any, samples: Any) -> None:
        samples = ops.cast(samples, self.dtype)
        values = ops.stack([ops.cast(loss, self.dtype) * samples, ops.cast(metric, self.dtype) * samples, samples])
        here = ops.equal(ops.arange(self.epochs), ops.floor_divide(self.step, self.steps_per_epoch))
        # Not a product with 0 and 1, which would spread a loss that is not a number over the whole chunk.
        self.sums.assign_add(ops.where(here[None], values[:, None], ops.zeros((), self.dtype)))
        self.step.assign_add(1)

    def result(self) -> Any:
        return self.sums[0, 0]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss and metric of each epoch since the last reset, (epochs,) each."""
        loss, metric, samples = ops.convert_to_numpy(self.sums)
        done = samples > 0
        return loss[done] / samples[done], metric[done] / samples[done]


class TrainingModel(keras.Model):
    """A functional model that keeps a `EpochMetrics` of what its training and its evaluation compute."""

    objective: keras.losses.Loss
    task_metric: TaskMetric
    epoch_metrics: EpochMetrics
    valid_metrics: EpochMetrics

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = self.objective(y, y_pred)  # Keras' own version of this method rounds it to float32
        for penalty in self.losses:
            loss += penalty
        epoch_metrics = self.epoch_metrics if training else self.valid_metrics
        epoch_metrics.update_state(loss, self.task_metric(y, y_pred), ops.shape(y_pred)[0])
        return loss


class MonitorCallback(keras.callbacks.Callback):
    """Reports each chunk to the monitor, stops where it says so, and keeps the best weights and checkpoints."""

    build: TrainingModel

    def __init__(self, problem: Problem, monitor: Monitor, trained: TrainingModel) -> None:
        super().__init__()
        self.monitor, self.trained, self.averaged = monitor, trained, problem.ema is not None
        self.best: list[np.ndarray] | None = None
        self._resume()
        X, y = problem.X_valid, targets(problem, problem.y_valid)
        self.valid = [
            (ops.convert_to_tensor(X[start : start + ROWS]), ops.convert_to_tensor(y[start : start + ROWS]))
            for start in range(0, len(X), ROWS)
        ]
        done = monitor.history.epochs
        self.ends = deque((chunk.stop - done) * problem.steps_per_epoch for chunk in problem.chunks())
        while self.ends and self.ends[0] <= 0:
            self.ends.popleft()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 < self.ends[0]:
            return
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        losses, metrics = self.model.epoch_metrics.read()
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
        """The averaged weights in the place of those that training goes on with, where the problem asks for them."""
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
            self.best = [saved[f"best/{i}"] for i in range(len(self.trained.get_weights()))]

    def _variables(self) -> list[keras.Variable]:
        return [*self.trained.variables, *self.trained.optimizer.variables]

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
