"""A `Network` as a Keras model, and weights to and from it."""

from dataclasses import replace

import keras
from keras import ops

from twinnet.core.network import (
    Activate,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Fork,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    Network,
    Weights,
)
from twinnet.core.schema import Activation, Loss
from twinnet.engines.keras.optimizers import constant_type

INPUT = "input"
SEEDS = 2**32  # JAX takes uint32
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


def build_model(network: Network, weights: Weights, dtype: str, seed: int, policy: str | None = None) -> keras.Model:
    """A functional model: input, one Keras layer for each layer of the network, and the output's activation.

    It takes (samples, *input shape) and gives (samples, units). `seed` is of the dropout; `policy` is Keras' dtype
    policy for all but the output layer.
    """
    inputs = keras.Input(network.input_shape, dtype=dtype, name=INPUT)
    tensor = inputs
    forked: list[keras.KerasTensor] = []  # inputs of the open residual blocks
    for index, layer in enumerate(network.layers[:-1]):
        name = f"{type(layer).__name__.lower()}_{index}"
        if isinstance(layer, Fork):
            forked.append(tensor)
        elif isinstance(layer, Add):
            shortcut = _shortcut(layer, forked.pop(), tensor, index, policy or dtype, network.l2)
            tensor = keras.layers.Add(name=name, dtype=policy or dtype)([tensor, shortcut])
        else:
            layer, tensor = _subsampled(layer, tensor, index, policy or dtype)
            tensor = _layer(layer, name, policy or dtype, network.l2, (seed + index) % SEEDS)(tensor)
    output = network.layers[-1]
    assert isinstance(output, Dense)
    linear = replace(output, activation=Activation.identity)
    logits = _layer(linear, f"dense_{len(network.layers) - 1}", dtype, network.l2, seed)(tensor)
    activation = keras.layers.Activation(_activation(output.activation), dtype=dtype, name=OUTPUT)
    model = keras.Model(inputs, activation(logits))
    set_weights(model, weights)
    return model


def _shortcut(
    layer: Add, forked: keras.KerasTensor, tensor: keras.KerasTensor, index: int, policy: str, l2: float
) -> keras.KerasTensor:
    if layer.channels is None:
        return forked
    strided = Conv2D(tensor.shape[-1], 1, layer.stride, Activation.identity)
    projection, forked = _subsampled(strided, forked, index, policy)
    return _layer(projection, f"projection_{index}", policy, l2, 0)(forked)


def _subsampled(layer: Layer, tensor: keras.KerasTensor, index: int, policy: str) -> tuple[Layer, keras.KerasTensor]:
    """Return a 1 x 1 convolution with a stride as one without, of the pixels that it takes: the same function.

    TensorFlow 2.21 on a CPU (oneDNN) writes beyond its buffers in the gradient of the former over few channels.
    """
    if not isinstance(layer, Conv2D) or layer.kernel_size > 1 or layer.stride == 1:
        return layer, tensor
    common = {"name": f"subsample_{index}", "dtype": policy, "data_format": "channels_last"}
    return replace(layer, stride=1), keras.layers.AveragePooling2D(1, layer.stride, **common)(tensor)


def loss_inputs(model: keras.Model, loss: Loss, activation: Activation) -> tuple[keras.KerasTensor, bool]:
    """Return the input of the loss, and whether it is logits rather than activations."""
    logits = model.get_layer(OUTPUT).input
    if (loss, activation) in LOGITS:
        return logits, True
    if loss is Loss.categorical_crossentropy:
        # One sigmoid unit. The product hides where the values come from: Keras would hand the sigmoid's logits to the
        # loss as those of a softmax, with a gradient that is right only for labels that sum to 1.
        return model.output * 1.0, False
    return model.output, False


def set_weights(model: keras.Model, weights: Weights) -> None:
    for layers, values in zip(_layers(model), weights, strict=True):
        for layer in layers:
            for name, there in NAMES.items():
                if hasattr(layer, there):
                    getattr(layer, there).assign(values[name])


def get_weights(model: keras.Model) -> Weights:
    return [
        {
            name: ops.convert_to_numpy(getattr(layer, there))
            for layer in layers
            for name, there in NAMES.items()
            if hasattr(layer, there)
        }
        for layers in _layers(model)
    ]


def _layers(model: keras.Model) -> list[list[keras.Layer]]:
    """The Keras layers that stand for each layer of the network, by the numbers in their names."""
    own = [layer for layer in model.layers if layer.name not in (INPUT, OUTPUT)]
    numbered = [(int(layer.name.rpartition("_")[2]), layer) for layer in own]
    last = max(number for number, _ in numbered)
    return [[layer for number, layer in numbered if number == index] for index in range(last + 1)]


def _activation(activation: Activation) -> str:
    return "linear" if activation is Activation.identity else activation.value


def _layer(layer: Layer, name: str, policy: str, l2: float, seed: int) -> keras.Layer:
    common = {"name": name, "dtype": policy}
    drawn = {"kernel_initializer": "zeros", "kernel_regularizer": _penalty(l2, policy) if l2 else None}
    match layer:
        case Dense(units, activation):
            return keras.layers.Dense(units, _activation(activation), **drawn, **common)
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
        case GlobalAveragePool2D():
            return keras.layers.GlobalAveragePooling2D(data_format="channels_last", **common)
        case Flatten():
            return keras.layers.Flatten(data_format="channels_last", **common)
        case Dropout(rate):
            return keras.layers.Dropout(rate, seed=seed, **common)
        case _:
            raise TypeError(f"no Keras layer for {type(layer).__name__}")


def _penalty(l2: float, dtype: str) -> keras.regularizers.L2:
    penalty = keras.regularizers.L2(l2)
    penalty.l2 = constant_type(dtype)(l2)
    return penalty
