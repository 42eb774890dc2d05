"""The steps of a call by Keras on TensorFlow, and its kernel for the normalisation of images."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from twinnet.core import augmentation
from twinnet.engines.keras.calls import Draws
from twinnet.engines.keras.targets import training_targets
from twinnet.engines.keras.training_model import TrainingModel


def batches(model: "LoopingModel", planned: list[range]) -> tf.data.Dataset:
    """The steps of each call, drawn beside the training; the samples stay on the device."""
    problem = model.problem
    model.samples = tf.constant(problem.X_train), tf.constant(training_targets(problem))
    draw = Draws(problem)
    signature = {
        name: tf.TensorSpec((None, None, *values.shape[2:])[: values.ndim], values.dtype)
        for name, values in draw(planned[0]).items()
    }
    drawn = tf.data.Dataset.from_generator(lambda: map(draw, planned), output_signature=signature)
    return drawn.apply(tf.data.experimental.assert_cardinality(len(planned))).prefetch(tf.data.AUTOTUNE)


class LoopingModel(TrainingModel):
    """A TrainingModel whose `train_step` makes all the steps of a call."""

    samples: tuple[tf.Tensor, tf.Tensor]

    def train_step(self, steps: dict[str, tf.Tensor]) -> Any:
        def step(number: tf.Tensor) -> tf.Tensor:
            X, y = self.samples
            if "order" in steps:
                chosen = {name: values[number] for name, values in steps.items()}
                order, shift = chosen["order"], self.problem.augmentation.shift
                X, y = augmentation.augment(tf.gather(X, order), tf.gather(y, order), chosen, shift, ops)
            super(LoopingModel, self).train_step((X, y))
            return number + 1

        count = tf.shape(next(iter(steps.values())))[0]
        tf.while_loop(lambda number: number < count, step, [0])
        return self.get_metrics_result()


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' own layer, with one kernel for images in training in the place of a dozen operations on all of them.

    `tf.raw_ops.FusedBatchNormV3`, as in Keras 2, for float32 and bfloat16.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> Any:
        if not training or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        no_average = tf.zeros(0)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=self.gamma, offset=self.beta, mean=no_average, variance=no_average, epsilon=self.epsilon
        )
        # The kernel returns the variance of a sample of n; Keras averages that of the batch.
        n = ops.cast(ops.size(inputs) / inputs.shape[-1], "float32")
        variance *= (n - 1) / n
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


def fuse_normalization(network: keras.Model) -> keras.Model:
    """Return a copy of `network`, weights too, with FusedBatchNormalization in the place of Keras' own."""

    def copy(layer: keras.Layer) -> keras.Layer:
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        return (FusedBatchNormalization if normalizes else type(layer)).from_config(layer.get_config())

    fused = keras.models.clone_model(network, clone_function=copy)
    fused.set_weights(network.get_weights())
    return fused
