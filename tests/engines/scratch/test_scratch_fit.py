"""Whole trainings: the textbook's numbers, one array library against the other, the same seed, bad endings."""

import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.problems import dropout_problem, random_bits, scratch_problem
from twinnet.core import augmentation
from twinnet.core.errors import DataError, DivergedError
from twinnet.core.monitor import Monitor
from twinnet.core.network import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D
from twinnet.core.problem import Problem
from twinnet.core.schema import (
    Activation,
    Adam,
    AdamW,
    Augmentation,
    EarlyStopping,
    GradientDescent,
    Initializer,
    Momentum,
    Nesterov,
    RMSprop,
    Schedule,
    ScheduleKind,
    Task,
)
from twinnet.engines import scratch
from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.jax_trainer import JaxTrainer
from twinnet.engines.scratch.trainer import DropoutMasks, step_spec

CNN = (Conv2D(3, 3, 1, Activation.identity), BatchNorm(), Conv2D(4, 3, 2, Activation.relu), MaxPool2D(), Flatten())


def trained(problem: Problem, early_stopping: EarlyStopping | None = None) -> tuple[scratch.ScratchNetwork, dict]:
    monitor = Monitor(problem.metric, early_stopping or EarlyStopping())
    fitted = scratch.fit(problem, monitor)
    return fitted, monitor.history.arrays()


def textbook(problem: Problem) -> tuple[list, list, list]:
    """Full-batch gradient descent on sigmoid layers and cross-entropy, equation by equation, samples last."""
    weights = [[layer["W"].T.copy(), layer["b"][:, None].copy()] for layer in problem.weights]
    X, Y, m = problem.X_train.T, problem.y_train.reshape(1, -1), len(problem.y_train)
    losses, accuracies = [], []
    for _ in range(problem.epochs):
        A = [X]
        for W, b in weights:
            A.append(1 / (1 + np.exp(-(np.dot(W, A[-1]) + b))))
        P = A[-1]
        losses.append(-1 / m * (np.dot(Y, np.log(P).T) + np.dot(1 - Y, np.log(1 - P).T))[0, 0])
        accuracies.append(((P > 0.5) == Y).mean())
        dA = -(np.divide(Y, P) - np.divide(1 - Y, 1 - P))
        updated = []
        for (W, b), before, after in zip(weights[::-1], A[-2::-1], A[:0:-1], strict=True):
            dZ = dA * (after * (1 - after))
            dW, db = np.dot(dZ, before.T) / m, np.sum(dZ, axis=1, keepdims=True) / m
            dA = np.dot(W.T, dZ)
            updated.append([W - problem.optimizer.learning_rate * dW, b - problem.optimizer.learning_rate * db])
        weights = updated[::-1]
    return losses, accuracies, weights


@pytest.mark.parametrize("hidden", [(4,), (5, 3)])
def test_reference_is_the_textbook_bit_for_bit(hidden: tuple[int, ...]) -> None:
    layers = tuple(Dense(units, Activation.sigmoid) for units in hidden)
    problem = scratch_problem(layers, init=Initializer.uniform, samples=67, epochs=300)
    fitted, history = trained(problem)
    losses, accuracies, weights = textbook(problem)
    for layer, (W, b) in zip(fitted.weights(), weights, strict=True):
        np.testing.assert_array_equal(layer["W"], W.T)
        np.testing.assert_array_equal(layer["b"], b[:, 0])
    np.testing.assert_allclose(history["train/loss"], losses, rtol=1e-14)
    np.testing.assert_array_equal(history["train/accuracy"], accuracies)


OPTIMIZERS = [
    GradientDescent(learning_rate=0.1),
    Momentum(learning_rate=0.05, schedule=Schedule(ScheduleKind.cosine, warmup=0.1)),
    Nesterov(learning_rate=0.05, schedule=Schedule(ScheduleKind.one_cycle, warmup=0.3, end=0.1)),
    RMSprop(learning_rate=0.01),
    Adam(learning_rate=0.01, schedule=Schedule(ScheduleKind.exponential, end=0.1)),
    AdamW(learning_rate=0.01),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.kind)
def test_compiled_is_the_reference(optimizer) -> None:
    """Batches of 8 from 30 samples (the last has 6), dropout, l2: the same losses and weights, to rounding."""
    hidden = (Dense(6, Activation.tanh), Dropout(0.3), Dense(5, Activation.relu))
    problem = scratch_problem(
        hidden, task=Task.multiclass, classes=3, batch_size=8, optimizer=optimizer, l2=0.001, epochs=25
    )
    (reference, expected), (compiled, history) = (trained(p) for p in both(problem))
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-10, err_msg=name)
    for mine, other in zip(compiled.weights(), reference.weights(), strict=True):
        for name in mine:
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-9, atol=1e-12)


def both(problem: Problem) -> list[Problem]:
    return [
        replace(problem, engine=replace(problem.engine, array=type(problem.engine.array)(a))) for a in ("numpy", "jax")
    ]


def test_convolutional_network_learns_in_both() -> None:
    problem = scratch_problem(
        CNN, input_shape=(9, 8, 2), task=Task.multiclass, classes=3,
        samples=45, batch_size=16, epochs=12, optimizer=Adam(learning_rate=0.02),
    )  # fmt: skip
    (reference, expected), (compiled, history) = (trained(p) for p in both(problem))
    np.testing.assert_allclose(history["train/loss"], expected["train/loss"], rtol=1e-7)
    assert expected["train/loss"][-1] < 0.7 * expected["train/loss"][0]
    np.testing.assert_allclose(
        compiled.predict(problem.X_valid), reference.predict(problem.X_valid), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("array", ["numpy", "jax"])
def test_float32_stays_float32(array: str) -> None:
    hidden = (Dense(6, Activation.relu), BatchNorm(), Dropout(0.2))
    for optimizer in OPTIMIZERS if array == "numpy" else OPTIMIZERS[-2:-1]:  # to compile takes a while
        problem = scratch_problem(hidden, array=array, dtype="float32", batch_size=8, optimizer=optimizer, epochs=2)
        fitted, _ = trained(replace(problem, ema=0.9))
        assert {value.dtype for layer in fitted.weights() for value in layer.values()} == {np.dtype("float32")}
        assert fitted.predict(problem.X_valid).dtype == np.float32


def test_steps_are_counted_beyond_what_float32_holds() -> None:
    """From 2^24 on, where a schedule in float32 would stop."""
    optimizer, weights = GradientDescent(), [{"W": np.ones((1, 1), np.float32)}]
    count, *rest = optimizers.init_state(optimizer, weights)
    state = (count + 2**24, *rest)
    for _ in range(2):
        weights, state = optimizers.update(optimizer, weights, weights, state, np.float32(0.1), 1, np)
    assert state[0] == 2**24 + 2


@pytest.mark.parametrize("array", ["numpy", "jax"])
def test_validation_is_that_of_the_weights_after_each_chunk(array: str) -> None:
    problem = scratch_problem(array=array, epochs=7)
    fitted, history = trained(problem)
    p = fitted.predict(problem.X_valid)[:, 0]
    expected = -np.log(np.where(problem.y_valid == 1, p, 1 - p)).mean()
    assert history["valid/loss"][-1] == pytest.approx(expected, rel=1e-12)
    assert history["valid/accuracy"][-1] == ((p > 0.5) == problem.y_valid).mean()


@pytest.mark.parametrize("array", ["numpy", "jax"])
def test_early_stopping_takes_the_best_weights(array: str) -> None:
    """A rate so high that the validation loss soon rises: the network returned is the one of the best epoch."""
    problem = scratch_problem((Dense(30, Activation.tanh),), array=array, epochs=400, optimizer=Adam(learning_rate=0.1))
    problem = replace(problem, y_train=np.random.default_rng(0).permutation(problem.y_train))
    fitted, history = trained(problem, EarlyStopping(patience=5))
    best = int(np.argmin(history["valid/loss"]))
    assert len(history["valid/loss"]) == best + 6 < 400
    p = fitted.predict(problem.X_valid)[:, 0]
    assert -np.log(np.where(problem.y_valid == 1, p, 1 - p)).mean() == pytest.approx(history["valid/loss"][best])


@pytest.mark.parametrize("array", ["numpy", "jax"])
@pytest.mark.parametrize("epochs", [1, 999, 1001, 2500])
def test_every_epoch_is_recorded_whatever_the_chunks(array: str, epochs: int) -> None:
    problem = scratch_problem(array=array, epochs=epochs, samples=5)
    _, history = trained(problem)
    assert len(history["train/loss"]) == epochs == history["valid_epoch"][-1]
    assert (np.diff(history["train/loss"]) < 0).all()


@pytest.mark.parametrize("array", ["numpy", "jax"])
def test_a_saved_network_predicts_the_same_and_holds_no_pickle(array: str, tmp_path) -> None:
    problem = scratch_problem(CNN, input_shape=(9, 8, 2), array=array, samples=20, epochs=2)
    fitted, _ = trained(problem)
    path = fitted.save(tmp_path)
    assert path.name == "model.npz"
    assert list(tmp_path.iterdir()) == [path]
    loaded = scratch.load(path)
    assert loaded.network == problem.network
    np.testing.assert_array_equal(loaded.predict(problem.X_valid), fitted.predict(problem.X_valid))


def test_load_refuses_objects_and_weights_of_another_shape(tmp_path) -> None:
    """Whose message `Run.network` puts in one line."""
    np.savez(tmp_path / "object.npz", network=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        scratch.load(tmp_path / "object.npz")
    path = trained(scratch_problem(epochs=1))[0].save(tmp_path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"0/W": arrays["0/W"].T})
    with pytest.raises(ValueError, match=r"0/W: expected the shape \(2, 4\); received \(4, 2\)"):
        scratch.load(path)


def test_predict_refuses_other_shapes_and_non_finite_numbers() -> None:
    fitted, _ = trained(scratch_problem(epochs=1))
    with pytest.raises(DataError, match=r"expected samples x 2; received an array of shape \(4, 3\)"):
        fitted.predict(np.zeros((4, 3)))
    with pytest.raises(DataError, match="finite"):
        fitted.predict(np.array([[0.0, np.nan]]))
    assert fitted.predict(np.empty((0, 2))).shape == (0, 1)


@pytest.mark.parametrize("array", ["numpy", "jax"])
def test_a_rate_too_high_ends_with_the_epoch_and_no_warning(array: str) -> None:
    problem = scratch_problem(
        (Dense(4, Activation.relu),), task=Task.regression, array=array, epochs=3000,
        optimizer=GradientDescent(learning_rate=1e3),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            DivergedError, match=r"no longer a finite number at epoch \d+; the last finite loss was"
        ) as e:
            trained(problem)
    assert np.isfinite(e.value.history.arrays()["train/loss"]).all()


@pytest.mark.parametrize("array", ["numpy", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_units_keep_a_finite_loss_and_a_gradient(array: str, dtype: str) -> None:
    """Inputs so large that the sigmoid rounds to 0 and 1: the textbook divides 0 by 0 here."""
    problem = scratch_problem((), array=array, dtype=dtype, epochs=40, samples=30)
    X = (problem.X_train * 1e3).astype(dtype)
    problem = replace(problem, X_train=X, y_train=(X.sum(axis=1) < 0).astype(int), X_valid=X, y_valid=problem.y_train)
    problem = replace(problem, weights=[{"W": np.ones((2, 1), dtype), "b": np.zeros(1, dtype)}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, history = trained(problem)
    Z = X.astype(float).sum(axis=1)
    expected = np.logaddexp(0, np.where(problem.y_train == 1, -Z, Z)).mean()
    assert history["train/loss"][0] == pytest.approx(expected, rel=1e-5)
    assert history["train/loss"][-1] < 0.1 * expected


@pytest.mark.parametrize("threads", [None, 1, 8])
def test_threads_that_jax_ignores_are_a_warning(threads: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """And a small network is compiled for one thread, whatever they are."""
    problem = scratch_problem(array="jax", epochs=1)
    problem = replace(problem, engine=replace(problem.engine, threads=threads))
    assert JaxTrainer(problem).one_thread
    trained(problem)
    warned = [record.getMessage() for record in caplog.records if record.name == "twinnet.engines.scratch"]
    assert warned == (["engine.threads=8: JAX chooses its threads; ignored"] if threads == 8 else [])


def test_dropout_is_drawn_apart_from_augmentation() -> None:
    """Step 0 and epoch 0 have the same seed and number; from one stream, the flips would be the mask of a unit."""
    problem = scratch_problem((Flatten(), Dropout(0.5)), input_shape=(3, 3, 1), samples=400)
    problem = replace(problem, augmentation=Augmentation(flip=True))
    flips = augmentation.sample(problem, 0)["flip"]
    [mask] = DropoutMasks(problem, step_spec(problem)).draw(0, 400).values()
    assert max(abs(np.corrcoef(flips, row)[0, 1]) for row in mask) < 0.3


SAME_SEED = """
import sys
from tests.problems import dropout_problem, random_bits
sys.stdout.buffer.write(b"".join(random_bits(dropout_problem(array)) for array in ("numpy", "jax")))
"""


def test_seed_gives_the_same_bits_in_a_new_process(root: Path) -> None:
    first = {array: random_bits(dropout_problem(array)) for array in ("numpy", "jax")}
    assert first == {array: random_bits(dropout_problem(array)) for array in first}
    done = subprocess.run([sys.executable, "-c", SAME_SEED], capture_output=True, check=True, cwd=root)
    assert first["numpy"] + first["jax"] == done.stdout
    assert random_bits(dropout_problem("numpy", seed=1)) != first["numpy"]


def test_train_command_compiles_its_loops_to_kernels(tiny_project: Path, root: Path, tmp_path: Path) -> None:
    """XLA reads the flag once, when the first backend starts: the compiled program shows that it was set."""
    shutil.copytree(root / "conf", tiny_project / "conf", dirs_exist_ok=True)
    dump = tmp_path / "compiled"
    command = [sys.executable, "-m", "twinnet.train", "experiment=nba_scratch", "epochs=30", "tracking=none"]
    flags = f"--xla_dump_to={dump} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=train_chunks"
    subprocess.run(command, cwd=tiny_project, env=os.environ | {"XLA_FLAGS": flags}, check=True, timeout=120)
    [program] = dump.glob("*train_chunks*after_optimizations.txt")
    assert "xla_cpu_small_call" in program.read_text()


def test_compiled_program_is_loaded_by_the_next_process(tiny_project: Path, root: Path) -> None:
    """With the same bits; a damaged entry is compiled again, without a word."""
    shutil.copytree(root / "conf", tiny_project / "conf", dirs_exist_ok=True)
    (tiny_project / "dvc.yaml").touch()
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "twinnet.train", "experiment=nba_scratch", "epochs=30", "tracking=none"]
    command += ["hydra.run.dir=outputs/run"]

    def train() -> bytes:
        ended = subprocess.run(command, cwd=tiny_project, env=environment, capture_output=True, timeout=120, check=True)
        assert b"cache" not in ended.stdout + ended.stderr
        return (tiny_project / "outputs/run/predictions.npz").read_bytes()

    first = train()
    [program] = (tiny_project / "build/jax_cache").glob("*/jit_train_chunks-*-cache")
    [used] = program.parent.glob("jit_train_chunks-*-atime")
    written, content = used.read_bytes(), program.read_bytes()
    assert train() == first
    assert used.read_bytes() != written
    program.write_bytes(content[:1000])
    assert train() == first


def test_xla_flags_are_left_to_other_libraries() -> None:
    """TensorFlow and child processes get the user's flags alone."""
    code = "import os; from twinnet.engines.scratch import jit; print(os.environ.get('XLA_FLAGS'))"
    for given in (None, "--xla_cpu_multi_thread_eigen=true"):
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        environment |= {"XLA_FLAGS": given} if given else {}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert ended.stdout.strip() == str(given)
