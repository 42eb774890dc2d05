"""The description of a network: its shapes, and the weights that both engines start from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinnet.core.network import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, Network
from twinnet.core.schema import Activation, Initializer


def image_network(size: int, stride: int, kernel: int) -> Network:
    return Network(
        (size, size, 2),
        (Conv2D(3, kernel, stride, Activation.relu), BatchNorm(), MaxPool2D(), Flatten(), Dense(4, Activation.softmax)),
    )


@pytest.mark.xdist_group("keras")
@settings(deadline=None, max_examples=10)
@given(st.integers(6, 15), st.integers(1, 2), st.sampled_from([1, 3, 5]))
def test_shapes_and_parameter_counts_are_those_of_keras(size: int, stride: int, kernel: int) -> None:
    import keras  # 4 s

    network = image_network(size, stride, kernel)
    model = keras.Sequential(
        [
            keras.layers.Input(network.input_shape),
            keras.layers.Conv2D(3, kernel, stride, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPool2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    assert network.shapes()[1:] == [layer.output.shape[1:] for layer in model.layers]
    assert network.parameters() == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_uniform_draws_as_the_chapter_does_layer_by_layer() -> None:
    network = Network((2,), (Dense(4, Activation.sigmoid), Dense(1, Activation.sigmoid)))
    weights = network.initial_weights(Initializer.uniform, seed=0, dtype="float64")
    random = np.random.RandomState(0)
    for drawn, (inputs, units) in zip(weights, [(2, 4), (4, 1)], strict=True):
        np.testing.assert_array_equal(drawn["W"], random.rand(units, inputs).T)
        np.testing.assert_array_equal(drawn["b"], random.rand(units, 1)[:, 0])


@pytest.mark.parametrize("init", list(Initializer))
def test_weights_depend_on_the_seed(init: Initializer) -> None:
    network = image_network(8, 1, 3)
    first, again, other = (network.initial_weights(init, seed, "float32") for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
            assert value.dtype == np.float32
    assert not np.array_equal(first[0]["W"], other[0]["W"])


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        (Initializer.glorot_uniform, np.sqrt(2 / (500 + 400))),
        (Initializer.he_normal, np.sqrt(2 / 500)),
        (Initializer.uniform, np.sqrt(1 / 12)),
    ],
)
def test_initial_weights_have_the_spread_of_their_paper(init: Initializer, deviation: float) -> None:
    weights = Network((500,), (Dense(400, Activation.relu),)).initial_weights(init, seed=0, dtype="float64")
    assert weights[0]["W"].std() == pytest.approx(deviation, rel=0.01)
    assert (weights[0]["b"].any()) == (init is Initializer.uniform)
