"""The model that is trained: a functional Keras model that records the loss and the metric of each epoch."""

from typing import Any

import keras
import numpy as np
from keras import ops

from twinnet.core.problem import Problem
from twinnet.core.schema import Task


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
    """Sums of loss and metric over the samples of each epoch of a chunk, added up on the device."""

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
    """A functional model with an `EpochMetrics` for training and one for evaluation."""

    objective: keras.losses.Loss
    task_metric: TaskMetric
    epoch_metrics: EpochMetrics
    valid_metrics: EpochMetrics
    problem: Problem

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        loss = self.objective(y, y_pred)  # Keras' own version of this method rounds it to float32
        for penalty in self.losses:
            loss += penalty
        epoch_metrics = self.epoch_metrics if training else self.valid_metrics
        epoch_metrics.update_state(loss, self.task_metric(y, y_pred), ops.shape(y_pred)[0])
        return loss
