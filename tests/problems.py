"""Small problems for the tests of the engines and the benchmarks: the one place where a `Problem` is put together."""

from dataclasses import replace
from typing import Any

import numpy as np

from twinnet.core.engine import fit
from twinnet.core.monitor import Monitor
from twinnet.core.network import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Network
from twinnet.core.problem import Problem, TrainedNetwork
from twinnet.core.schema import (
    Activation,
    Adam,
    ArrayLibrary,
    Augmentation,
    Backend,
    Dtype,
    Engine,
    GradientDescent,
    Initializer,
    KerasEngine,
    Loss,
    ScratchEngine,
    Task,
)

LOSSES = {
    Task.binary: Loss.binary_crossentropy,
    Task.multiclass: Loss.categorical_crossentropy,
    Task.regression: Loss.mean_squared_error,
}
OUTPUTS = {Task.binary: Activation.sigmoid, Task.multiclass: Activation.softmax, Task.regression: Activation.identity}


def assemble(
    network: Network,
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    *,
    init: Initializer = Initializer.glorot_uniform,
    init_seed: int = 0,
    **changes: Any,
) -> Problem:
    """Return the problem of a network on X and y; its weights and loss fit the task, `changes` are of its fields."""
    X, y = train
    task = changes.get("task", Task.binary)
    problem = Problem(
        network=network,
        weights=network.initial_weights(init, init_seed, str(X.dtype)),
        loss=LOSSES[task],
        task=task,
        optimizer=GradientDescent(learning_rate=0.1),
        engine=ScratchEngine(dtype=Dtype(str(X.dtype)), array=ArrayLibrary.numpy),
        X_train=X,
        y_train=y,
        X_valid=valid[0],
        y_valid=valid[1],
        epochs=20,
        batch_size=len(X),
        seed=0,
        device="cpu",
    )
    return replace(problem, **changes)


def scratch_problem(
    hidden: tuple[Layer, ...] = (Dense(4, Activation.sigmoid),),
    *,
    task: Task = Task.binary,
    array: str = "numpy",
    dtype: str = "float64",
    input_shape: tuple[int, ...] = (2,),
    samples: int = 30,
    classes: int = 2,
    init: Initializer = Initializer.glorot_uniform,
    l2: float = 0.0,
    seed: int = 0,
    **changes: Any,
) -> Problem:
    """Return a problem for the scratch engine, whose labels can be learned from the features' sum."""
    random = np.random.default_rng(5)
    X = random.normal(0, 1, (samples + 11, *input_shape)).astype(dtype)
    total = X.reshape(len(X), -1).sum(axis=1) + random.normal(0, 0.3, len(X))
    if task is Task.regression:
        y = total.astype(X.dtype)
    else:
        y = np.searchsorted(np.quantile(total, np.linspace(0, 1, classes + 1)[1:-1]), total)
    network = Network(input_shape, (*hidden, Dense(classes if task is Task.multiclass else 1, OUTPUTS[task])), l2)
    changes = {"engine": ScratchEngine(dtype=Dtype(dtype), array=ArrayLibrary(array)), "seed": seed} | changes
    return assemble(
        network, (X[:samples], y[:samples]), (X[samples:], y[samples:]), init=init, init_seed=seed, task=task, **changes
    )


def keras_problem(
    hidden: tuple[Layer, ...] = (Dense(4, Activation.tanh),),
    *,
    task: Task = Task.binary,
    dtype: str = "float64",
    input_shape: tuple[int, ...] = (3,),
    samples: int = 50,
    l2: float = 0.0,
    **changes: Any,
) -> Problem:
    """Return a problem for the Keras engine in small batches: 3 classes, 2 classes or a number from three features."""
    random = np.random.default_rng(7)
    X = random.normal(0, 1, (samples + 21, *input_shape)).astype(dtype)
    total = X.reshape(len(X), -1)[:, :3].sum(axis=1) + random.normal(0, 0.5, len(X))
    y = {
        Task.binary: (total > 0).astype(np.int64),
        Task.multiclass: np.searchsorted([-0.7, 0.7], total),
        Task.regression: total.astype(dtype),
    }[task]
    network = Network(input_shape, (*hidden, Dense(3 if task is Task.multiclass else 1, OUTPUTS[task])), l2)
    settings = {"engine": KerasEngine(dtype=Dtype(dtype), jit_compile=False), "optimizer": Adam(learning_rate=0.01)}
    changes = settings | {"epochs": 5, "batch_size": 16, "seed": 3} | changes
    return assemble(network, (X[:samples], y[:samples]), (X[samples:], y[samples:]), task=task, **changes)


def twin_problems(
    problem: Problem,
    backend: Backend = Backend.tensorflow,
    array: ArrayLibrary = ArrayLibrary.numpy,
    jit_compile: bool | None = False,
) -> tuple[Problem, Problem]:
    """Return the problem for the scratch engine and for Keras."""
    dtype = problem.engine.dtype
    engines: list[Engine] = [
        ScratchEngine(dtype=dtype, array=array),
        KerasEngine(dtype=dtype, backend=backend, jit_compile=jit_compile),
    ]
    scratch, keras = (replace(problem, engine=engine) for engine in engines)
    return scratch, keras


def train_arrays(problem: Problem, monitor: Monitor | None = None) -> tuple[TrainedNetwork, dict[str, np.ndarray]]:
    """Return the trained network and the arrays of its history."""
    monitor = monitor or Monitor(problem.metric)
    return fit(problem, monitor), monitor.history.arrays()


def random_bits(problem: Problem) -> bytes:
    """Return the bits of the history and of the weights after a training."""
    trained, arrays = train_arrays(problem)
    values = [*arrays.values(), *(value for layer in trained.weights() for value in layer.values())]
    return b"".join(np.ascontiguousarray(value).tobytes() for value in values)


def dropout_problem(array: str, seed: int = 0) -> Problem:
    """Return a problem with all that the scratch engine draws at random: weights, batch order, dropout."""
    hidden = (Dense(16, Activation.relu), Dropout(0.5))
    return scratch_problem(hidden, array=array, dtype="float32", samples=50, batch_size=8, epochs=5, seed=seed)


def augmented_problem(**changes: Any) -> Problem:
    """Return a problem with all that the Keras engine draws at random: the same, and augmentation."""
    hidden = (Conv2D(4, 3, 1, Activation.relu), MaxPool2D(), Flatten(), Dense(16, Activation.relu), Dropout(0.5))
    changes = {"augmentation": Augmentation(flip=True, shift=1)} | changes
    return keras_problem(hidden, input_shape=(6, 6, 1), task=Task.multiclass, dtype="float32", **changes)
