"""The Keras engine: what it records, when it stops, what it keeps, and that it repeats itself."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.problems import augmented_problem, keras_problem, random_bits, train_arrays
from twinnet.core.errors import ConfigError, DivergedError
from twinnet.core.history import History
from twinnet.core.monitor import Monitor
from twinnet.core.network import Add, BatchNorm, Conv2D, Dense, Dropout, Flatten, Fork, GlobalAveragePool2D
from twinnet.core.schema import (
    Activation,
    Backend,
    Dtype,
    EarlyStopping,
    GradientDescent,
    Initializer,
    KerasEngine,
    Loss,
    Task,
)
from twinnet.engines import keras as engine
from twinnet.engines.keras.build import build_model, get_weights

pytestmark = pytest.mark.xdist_group("keras")  # one worker loads TensorFlow
CONVOLUTION = (Conv2D(2, 3, 1, Activation.relu), Flatten())


def test_each_epoch_is_the_mean_over_its_samples() -> None:
    """At rate 0 nothing changes, so that batches of 16, 16, 16 and 2 must average to what all samples give at once."""
    still = GradientDescent(learning_rate=1e-300)
    fitted, history = train_arrays(keras_problem(optimizer=still, epochs=3))
    problem = keras_problem()
    p, y = fitted.predict(problem.X_train)[:, 0], problem.y_train
    loss = -np.log(np.where(y == 1, p, 1 - p)).mean()
    np.testing.assert_allclose(history["train/loss"], [loss] * 3, rtol=1e-12)
    np.testing.assert_allclose(history["train/accuracy"], [((p > 0.5) == y).mean()] * 3, rtol=1e-12)


@pytest.mark.parametrize("task", list(Task), ids=lambda task: task.value)
def test_validation_uses_the_weights_after_each_chunk(task: Task) -> None:
    problem = keras_problem((Dense(4, Activation.relu), BatchNorm(), Dropout(0.3)), task=task, l2=0.01)
    fitted, history = train_arrays(problem)
    output, y = fitted.predict(problem.X_valid), problem.y_valid
    penalty = 0.01 * sum((layer["W"] ** 2).sum() for layer in fitted.weights() if "W" in layer)
    loss, metric = {
        Task.binary: lambda: (-np.log(np.where(y == 1, output[:, 0], 1 - output[:, 0])), (output[:, 0] > 0.5) == y),
        Task.multiclass: lambda: (-np.log(output[np.arange(len(y)), y]), output.argmax(axis=1) == y),
        Task.regression: lambda: ((output[:, 0] - y) ** 2, abs(output[:, 0] - y)),
    }[task]()
    assert history["valid/loss"][-1] == pytest.approx(loss.mean() + penalty, rel=1e-10)
    assert history[f"valid/{problem.metric}"][-1] == pytest.approx(metric.mean(), rel=1e-10)
    assert len(history["valid/loss"]) == problem.epochs


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(70, 50, None), (31, 50, 7), (6, 16, 3), (6, 16, 1)])
def test_every_epoch_is_recorded_however_the_steps_are_cut(epochs, batch_size, steps, monkeypatch) -> None:
    """In chunks of three epochs, of two, and of one; the last chunk is smaller."""
    monkeypatch.setattr("twinnet.core.problem.MAX_RECORDS", 30)
    problem = keras_problem(epochs=epochs, batch_size=batch_size)
    whole, expected = train_arrays(problem)
    cut, history = train_arrays(
        replace(problem, engine=replace(problem.engine, steps_per_execution=steps, jit_compile=None))
    )
    assert len(history["train/loss"]) == epochs
    assert len(history["valid/loss"]) == len(list(problem.chunks()))
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(cut.predict(problem.X_valid), whole.predict(problem.X_valid), rtol=1e-9)


def test_it_stops_early_and_takes_the_best_weights() -> None:
    problem = keras_problem((Dense(64, Activation.relu),), samples=20, batch_size=5, epochs=300,
                   optimizer=GradientDescent(learning_rate=0.5))  # fmt: skip
    monitor = Monitor(problem.metric, EarlyStopping(patience=5))
    fitted, history = train_arrays(problem, monitor)
    assert monitor.best_epoch is not None
    assert len(history["train/loss"]) == monitor.best_epoch + 5 < 300
    p = fitted.predict(problem.X_valid)[:, 0]
    best = -np.log(np.where(problem.y_valid == 1, p, 1 - p)).mean()
    assert best == pytest.approx(history["valid/loss"].min(), rel=1e-10)


@pytest.mark.parametrize("batch_size", [16, 50])
def test_a_rate_that_diverges_ends_in_one_line_with_the_history(batch_size: int) -> None:
    problem = keras_problem(task=Task.regression, batch_size=batch_size, epochs=2000,
                   optimizer=GradientDescent(learning_rate=1e3))  # fmt: skip
    with pytest.raises(DivergedError, match=r"no longer a finite number at epoch \d+") as error:
        train_arrays(problem)
    history = error.value.history
    assert isinstance(history, History)
    assert all(np.isfinite(values).all() for values in history.arrays().values())


def test_categorical_crossentropy_on_one_unit_learns_nothing(caplog) -> None:
    problem = keras_problem(loss=Loss.categorical_crossentropy, dtype="float32", epochs=5)
    with caplog.at_level(logging.WARNING, "twinnet"):
        fitted, history = train_arrays(problem)
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("twinnet")]
    assert len(warnings) == 1
    assert "num_classes > 1" in warnings[0]
    assert np.ptp(history["train/loss"]) < 1e-12
    assert 0 <= history["train/loss"][0] < 1e-6
    for before, after in zip(problem.weights, fitted.weights(), strict=True):
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])


def test_strided_projections_are_of_subsampled_pixels() -> None:
    """Of few channels, TensorFlow on a CPU corrupts its heap in the gradient of the other form."""
    block = (Fork(), Conv2D(8, 3, 2, Activation.relu), Add(4, 2))
    hidden = (Conv2D(4, 1, 2, Activation.relu), *block, GlobalAveragePool2D())
    network = keras_problem(hidden, input_shape=(28, 28, 1)).network
    weights = network.initial_weights(Initializer.he_normal, 0, "float32")
    model = build_model(network, weights, "float32", seed=0)
    convolutions = [layer for layer in model.layers if hasattr(layer, "kernel_size")]
    assert len(convolutions) == 3
    assert not [layer for layer in convolutions if layer.kernel_size == (1, 1) and layer.strides != (1, 1)]
    for ours, theirs in zip(weights, get_weights(model), strict=True):
        assert ours.keys() == theirs.keys()


def test_a_saved_model_predicts_the_same_and_opens_in_plain_keras(tmp_path: Path) -> None:
    import keras

    convolution, flatten = CONVOLUTION
    hidden = (convolution, BatchNorm(), flatten, Dense(4, Activation.identity), BatchNorm(), Dropout(0.2))
    problem = keras_problem(hidden, input_shape=(5, 5, 1), task=Task.multiclass, dtype="float32", l2=0.001)
    fitted, _ = train_arrays(problem)
    path = fitted.save(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]
    again = engine.load(path)
    np.testing.assert_array_equal(again.predict(problem.X_valid), fitted.predict(problem.X_valid))
    for mine, theirs in zip(again.weights(), fitted.weights(), strict=True):
        assert {name: value.shape for name, value in mine.items()} == {
            name: value.shape for name, value in theirs.items()
        }
    plain = keras.saving.load_model(path).predict(problem.X_valid, verbose=0)
    np.testing.assert_allclose(plain, fitted.predict(problem.X_valid), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(16, 5, 5, 3), (1, 4, 4, 3), (16, 3)], ids=str)
@pytest.mark.parametrize(("policy", "rtol"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_fused_normalization_is_that_of_keras(shape: tuple[int, ...], policy: str, rtol: float) -> None:
    """Outputs, gradients and running averages of one step; of what is no image it is Keras' own."""
    import keras
    import tensorflow as tf

    from twinnet.engines.keras.tensorflow_training import fuse_normalization

    random = np.random.default_rng(0)
    X, slope = (tf.constant(random.normal(2, 3, shape), "float32") for _ in range(2))
    plain = keras.Sequential([keras.Input(shape[1:]), keras.layers.BatchNormalization(momentum=0.9, dtype=policy)])
    plain.set_weights([random.uniform(0.5, 2, shape[-1:]) for _ in range(4)])
    results = []
    for model in (plain, fuse_normalization(plain)):
        with tf.GradientTape() as tape:
            tape.watch(X)
            output = model(X, training=True)
            loss = tf.reduce_sum(tf.cast(output, "float32") * slope)
        gradients = tape.gradient(loss, [X, *model.trainable_variables])
        results.append([tf.cast(value, "float32").numpy() for value in (output, *gradients)] + model.get_weights())
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * abs(theirs).max())


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"model\.keras"):
        engine.load(path)


def test_another_backend_than_the_loaded_one_is_refused() -> None:
    train_arrays(keras_problem(epochs=1))
    with pytest.raises(ConfigError, match=r"engine\.backend=jax: expected tensorflow, .*process of its own"):
        train_arrays(keras_problem(engine=KerasEngine(backend=Backend.jax, dtype=Dtype.float64)))


def test_the_average_of_the_weights_is_evaluated_and_kept() -> None:
    """Against the average that the weights of trainings of 1, 2, ... steps give, each trained by itself."""
    problem = keras_problem(batch_size=50, optimizer=GradientDescent(learning_rate=0.5), epochs=4)
    average = None
    for epochs in range(1, 5):
        now = train_arrays(replace(problem, epochs=epochs))[0].weights()
        average = now if average is None else [
            {name: 0.7 * old[name] + 0.3 * new[name] for name in old} for old, new in zip(average, now, strict=True)
        ]  # fmt: skip
    fitted, history = train_arrays(replace(problem, ema=0.7))
    assert average is not None
    for mine, expected in zip(fitted.weights(), average, strict=True):
        for name, value in mine.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-14)
    p = fitted.predict(problem.X_valid)[:, 0]
    loss = -np.log(np.where(problem.y_valid == 1, p, 1 - p)).mean()
    assert history["valid/loss"][-1] == pytest.approx(loss, rel=1e-10)
    np.testing.assert_allclose(history["train/loss"], train_arrays(problem)[1]["train/loss"], rtol=1e-12)


def test_mixed_precision_keeps_weights_and_outputs_in_float32() -> None:
    problem = keras_problem(CONVOLUTION, input_shape=(6, 6, 1), task=Task.multiclass, dtype="float32", epochs=5)
    _, expected = train_arrays(problem)
    mixed, history = train_arrays(replace(problem, engine=replace(problem.engine, mixed_precision=True)))
    assert {value.dtype.name for layer in mixed.weights() for value in layer.values()} == {"float32"}
    assert mixed.predict(problem.X_valid).dtype == np.float32
    np.testing.assert_allclose(history["train/loss"], expected["train/loss"], rtol=0.02)
    assert not np.array_equal(history["train/loss"], expected["train/loss"])


SAME_SEED = """
import sys
from tests.problems import augmented_problem, random_bits
sys.stdout.buffer.write(random_bits(augmented_problem()))
assert not {"jax", "matplotlib", "scipy", "sklearn"} & set(sys.modules)  # seconds of imports that nothing here needs
import matplotlib, scipy  # who needs them later has them
"""


def test_seed_gives_the_same_bits_in_a_new_process(root: Path) -> None:
    problem = augmented_problem()
    first = random_bits(problem)
    assert random_bits(problem) == first
    assert random_bits(replace(problem, seed=problem.seed + 1)) != first
    done = subprocess.run([sys.executable, "-c", SAME_SEED], capture_output=True, check=False, cwd=root)
    assert done.stdout == first, done.stderr
    # No note of TensorFlow, except one that heeds no log level, on processors without AVX-512.
    notes = done.stderr.decode().splitlines()
    assert [line for line in notes if "oneDNN supports DT_INT64" not in line] == []


def test_plain_keras_on_the_same_batches_gives_the_same_curve() -> None:
    """Layers, loss, optimizer and accuracy by their names, `fit` as its guide begins, in float32."""
    import keras

    problem = keras_problem((Dense(6, Activation.relu),), task=Task.multiclass, dtype="float32", epochs=5)
    _, history = train_arrays(problem)
    plain = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3, activation="softmax")]
    )
    plain.set_weights([layer[name] for layer in problem.weights for name in ("W", "b")])
    plain.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    plain.optimizer.learning_rate = problem.optimizer.learning_rate
    curves: dict[str, list[float]] = {"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []}
    for epoch in range(problem.epochs):
        order = problem.order(epoch)
        fitted = plain.fit(
            problem.X_train[order], problem.y_train[order], problem.batch_size, shuffle=False, verbose=0,
            validation_data=(problem.X_valid, problem.y_valid),
        )  # fmt: skip
        for name, values in fitted.history.items():
            curves[name] += values
    for mine, theirs in (("train", ""), ("valid", "val_")):
        np.testing.assert_allclose(history[f"{mine}/loss"], curves[f"{theirs}loss"], atol=1e-5)
        np.testing.assert_allclose(history[f"{mine}/accuracy"], curves[f"{theirs}accuracy"], atol=1e-6)
