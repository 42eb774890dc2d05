"""A network described without an engine: its layers, their shapes, and the weights that both engines start from.

Shapes leave out the samples: a table row is `(features,)`, an image `(height, width, channels)`.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from twinnet.core.schema import CNN, MLP, Activation, Experiment, ImageData, Initializer, Model, ResNet, Task

Shape = tuple[int, ...]
Weights = list[dict[str, np.ndarray]]  # one dictionary a layer, empty for a layer without weights

OUTPUT_ACTIVATION = {
    Task.binary: Activation.sigmoid,
    Task.multiclass: Activation.softmax,
    Task.regression: Activation.identity,
}


def output_units(task: Task, classes: int) -> int:
    return classes if task is Task.multiclass else 1


class _Layer:
    """A layer that keeps the shape and has no weights."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {}


@dataclass(frozen=True)
class Dense(_Layer):
    """activation(X @ W + b); W is (inputs, units), b is (units,)."""

    units: int
    activation: Activation

    def output_shape(self, shape: Shape) -> Shape:
        return (self.units,)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"W": (shape[0], self.units), "b": (self.units,)}


@dataclass(frozen=True)
class Conv2D(_Layer):
    """activation(X * W + b), zero padding that keeps the size ("same"); W is (k, k, channels, filters)."""

    filters: int
    kernel_size: int
    stride: int
    activation: Activation

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = shape
        return (-(-height // self.stride), -(-width // self.stride), self.filters)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"W": (self.kernel_size, self.kernel_size, shape[2], self.filters), "b": (self.filters,)}


@dataclass(frozen=True)
class BatchNorm(_Layer):
    """Normalises each channel over the batch; mean and var are running averages, used in prediction and not trained."""

    momentum: float = 0.99
    epsilon: float = 1e-3

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return dict.fromkeys(("gamma", "beta", "mean", "var"), (shape[-1],))


@dataclass(frozen=True)
class Activate(_Layer):
    activation: Activation


@dataclass(frozen=True)
class MaxPool2D(_Layer):
    """The largest of each 2 x 2 square; a last odd row or column is left out."""

    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0] // self.size, shape[1] // self.size, shape[2])


@dataclass(frozen=True)
class Flatten(_Layer):
    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)


@dataclass(frozen=True)
class Dropout(_Layer):
    """Sets a fraction `rate` of the inputs to 0 in training and scales the rest by 1 / (1 - rate)."""

    rate: float


@dataclass(frozen=True)
class GlobalAveragePool2D(_Layer):
    """The mean of each channel over height and width."""

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[-1],)


@dataclass(frozen=True)
class Fork(_Layer):
    """Passes its input on, and saves it for the `Add` that ends the residual block."""


@dataclass(frozen=True)
class Add(_Layer):
    """The input plus the input of the `Fork` before it: the end of a residual block (He et al. 2016).

    If the block changes the shape, the forked input goes through a 1 x 1 convolution with `stride` from its `channels`
    to those of the input; W is (1, 1, channels, filters).
    """

    channels: int | None = None
    stride: int = 1

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {} if self.channels is None else {"W": (1, 1, self.channels, shape[-1]), "b": shape[-1:]}


Layer = Dense | Conv2D | BatchNorm | Activate | MaxPool2D | GlobalAveragePool2D | Flatten | Dropout | Fork | Add
STATE = ("mean", "var")  # weights that training updates without a gradient


@dataclass(frozen=True)
class Network:
    input_shape: Shape
    layers: tuple[Layer, ...]
    l2: float = 0.0

    def shapes(self) -> list[Shape]:
        """Input shape of each layer, then the output shape."""
        shapes = [self.input_shape]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return shapes

    def parameters(self) -> int:
        """How many weights are trained."""
        return sum(
            prod(shape)
            for layer, inputs in zip(self.layers, self.shapes(), strict=False)
            for name, shape in layer.weight_shapes(inputs).items()
            if name not in STATE
        )

    def initial_weights(self, init: Initializer, seed: int | np.random.RandomState, dtype: str) -> Weights:
        """Weights drawn layer by layer from RandomState(seed), the same for both engines.

        `uniform` draws W as rand(units, inputs) and then b as rand(units, 1), as the chapter does, and stores W
        transposed; `glorot_uniform` (Glorot and Bengio 2010) and `he_normal` (He et al. 2015) leave b at 0.
        """
        random = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
        weights: Weights = []
        for layer, inputs in zip(self.layers, self.shapes(), strict=False):
            drawn = _init_weights(layer.weight_shapes(inputs), init, random)
            weights.append({name: np.ascontiguousarray(value, dtype=dtype) for name, value in drawn.items()})
        return weights


def _init_weights(shapes: dict[str, Shape], init: Initializer, random: np.random.RandomState) -> dict[str, np.ndarray]:
    if "gamma" in shapes:
        return {name: (np.ones if name in ("gamma", "var") else np.zeros)(shape) for name, shape in shapes.items()}
    if "W" not in shapes:
        return {}
    shape = shapes["W"]
    fan_in, fan_out = prod(shape[:-1]), shape[-1] * prod(shape[:-2])
    if init is Initializer.uniform:
        return {
            "W": random.rand(shape[-1], fan_in).T.reshape(shape),
            "b": random.rand(shape[-1], 1)[:, 0],
        }
    if init is Initializer.glorot_uniform:
        limit = np.sqrt(6 / (fan_in + fan_out))
        return {"W": random.uniform(-limit, limit, shape), "b": np.zeros(shapes["b"])}
    return {"W": random.normal(0, np.sqrt(2 / fan_in), shape), "b": np.zeros(shapes["b"])}


def build_network(experiment: Experiment) -> Network:
    """The network of an experiment: the model's layers, then the output layer that the task determines."""
    data, model = experiment.data, experiment.model
    inputs = tuple(data.image_shape) if isinstance(data, ImageData) else (len(data.features),)  # type: ignore[attr-defined]  # the only other kind is TableData
    units = output_units(data.task, len(data.classes or []))
    output = Dense(units, OUTPUT_ACTIVATION[data.task])
    return Network(inputs, (*BUILDERS[type(model)](model, inputs), output), model.l2)


def _mlp(model: Model, inputs: Shape) -> tuple[Layer, ...]:
    assert isinstance(model, MLP)
    layers: list[Layer] = [Flatten()] if len(inputs) > 1 else []
    for units in model.hidden_units:
        layers += _block(Dense(units, model.activation), model)
    return tuple(layers)


def _cnn(model: Model, inputs: Shape) -> tuple[Layer, ...]:
    assert isinstance(model, CNN)
    layers: list[Layer] = []
    stride = model.stem_stride
    for filters in model.filters:
        for convolution in range(model.convolutions):
            layers.append(Conv2D(filters, model.kernel_size, stride, Activation.identity))
            if convolution == model.convolutions - 1:
                layers.append(MaxPool2D())  # before the normalisation and the activation, which then cost a quarter
            layers += _normalised(model)
            stride = 1
    layers.append(Flatten())
    for units in model.dense_units:
        layers += _block(Dense(units, model.activation), model)
    if not model.dense_units and model.dropout:
        layers.append(Dropout(model.dropout))
    return tuple(layers)


def _resnet(model: Model, inputs: Shape) -> tuple[Layer, ...]:
    assert isinstance(model, ResNet)
    channels = model.stem_filters or model.filters[0]
    layers: list[Layer] = [Conv2D(channels, 3, model.stem_stride, Activation.identity)]
    if not model.pre_activation:
        layers += _normalised(model)
    for stage, filters in enumerate(model.filters):
        for block in range(model.blocks):
            stride = 2 if stage and not block else 1
            add = Add(channels, stride) if stride > 1 or channels != filters else Add()
            first, second = (Conv2D(filters, 3, s, Activation.identity) for s in (stride, 1))
            between = [*_normalised(model), *([Dropout(model.dropout)] if model.dropout else [])]
            if not model.pre_activation:
                layers += [Fork(), first, *between, second, *_normalised(model)[:-1], add, Activate(model.activation)]
            elif add.channels is None:
                layers += [Fork(), *_normalised(model), first, *between, second, add]
            else:  # the shortcut too starts from what is normalised
                layers += [*_normalised(model), Fork(), first, *between, second, add]
            channels = filters
    if model.pre_activation:
        layers += _normalised(model)
    return (*layers, GlobalAveragePool2D())


def _normalised(model: Model) -> list[Layer]:
    return [*([BatchNorm()] if model.batch_norm else []), Activate(model.activation)]


def _block(layer: Dense, model: Model) -> list[Layer]:
    """The layer with its normalisation before the activation, and dropout after it."""
    block: list[Layer] = [layer]
    if model.batch_norm:
        block = [Dense(layer.units, Activation.identity), BatchNorm(), Activate(model.activation)]
    if model.dropout:
        block.append(Dropout(model.dropout))
    return block


# A model of one's own is a dataclass in the schema and a line here.
BUILDERS = {MLP: _mlp, CNN: _cnn, ResNet: _resnet}
