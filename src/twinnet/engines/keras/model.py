"""A `Network` as a Keras model, and weights to and from it."""

from collections.abc import Sequence

import keras
from keras import ops

from twinnet.config.schema import Activation, Loss
from twinnet.engines.keras.optimizers import number_type
from twinnet.networks import (
    Activate,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    Network,
    Weights,
)

OUTPUT = "output"  # the last layer of every model: the activation of the output layer
NAMES = {  # of the weights: here, in Keras
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
LOGITS = {  # losses that are computed from what enters the output's activation, stable for any value
    (Loss.binary_crossentropy, Activation.sigmoid),
    (Loss.categorical_crossentropy, Activation.softmax),
}


def build(network: Network, weights: Weights, dtype: str, seed: int) -> keras.Model:
    """A functional model: input, one Keras layer for each layer of the network, and the output's activation.

    It takes (samples, *input shape) and gives (samples, units). `seed` is of the dropout.
    """
    inputs = keras.Input(network.input_shape, dtype=dtype)
    tensor = inputs
    for index, layer in enumerate(network.layers):
        last = index == len(network.layers) - 1
        name = f"{type(layer).__name__.lower()}_{index}"
        built = _layer(layer, name, dtype, network.l2, seed + index, activate=not last)
        tensor = built(tensor)
    output = network.layers[-1]
    assert isinstance(output, Dense)
    activation = keras.layers.Activation(_activation(output.activation), dtype=dtype, name=OUTPUT)
    model = keras.Model(inputs, activation(tensor))
    set_weights(model, weights)
    return model


def trained_output(model: keras.Model, loss: Loss, activation: Activation) -> tuple[keras.KerasTensor, bool]:
    """What the loss is computed from, and whether that is logits rather than activations."""
    logits = model.get_layer(OUTPUT).input
    if (loss, activation) in LOGITS:
        return logits, True
    if loss is Loss.categorical_crossentropy:
        # One sigmoid unit. The product hides where the values come from: Keras would hand the sigmoid's logits to the
        # loss as those of a softmax, with a gradient that is right only for labels that sum to 1.
        return model.output * 1.0, False
    return model.output, False


def set_weights(model: keras.Model, weights: Weights) -> None:
    for layer, values in zip(_layers(model), weights, strict=True):
        for name, value in values.items():
            getattr(layer, NAMES[name]).assign(value)


def get_weights(model: keras.Model) -> Weights:
    return [
        {name: ops.convert_to_numpy(getattr(layer, there)) for name, there in NAMES.items() if hasattr(layer, there)}
        for layer in _layers(model)
    ]


def _layers(model: keras.Model) -> Sequence[keras.Layer]:
    return model.layers[1:-1]


def _activation(activation: Activation) -> str:
    return "linear" if activation is Activation.identity else activation.value


def _layer(layer: Layer, name: str, dtype: str, l2: float, seed: int, activate: bool) -> keras.Layer:
    common = {"name": name, "dtype": dtype}
    drawn = {"kernel_initializer": "zeros", "kernel_regularizer": _penalty(l2, dtype) if l2 else None}
    match layer:
        case Dense(units, activation):
            return keras.layers.Dense(units, _activation(activation) if activate else None, **drawn, **common)
        case Conv2D(filters, kernel_size, stride, activation):
            return keras.layers.Conv2D(
                filters,
                kernel_size,
                stride,
                padding="same",
                data_format="channels_last",
                activation=_activation(activation),
                **drawn,
                **common,
            )
        case BatchNorm(momentum, epsilon):
            return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, **common)
        case Activate(activation):
            return keras.layers.Activation(_activation(activation), **common)
        case MaxPool2D(size):
            return keras.layers.MaxPooling2D(size, data_format="channels_last", **common)
        case Flatten():
            return keras.layers.Flatten(data_format="channels_last", **common)
        case Dropout(rate):
            return keras.layers.Dropout(rate, seed=seed, **common)


def _penalty(l2: float, dtype: str) -> keras.regularizers.L2:
    penalty = keras.regularizers.L2(l2)
    penalty.l2 = number_type(dtype)(l2)
    return penalty
