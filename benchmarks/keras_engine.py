"""The Keras engine beside plain `model.fit`: nba_keras, and the networks of fashion_dense_book and fashion_cnn.

The batches are the same. A slice is one epoch with its validation, of nba_keras a hundred with one. Images are random:
what a step costs does not depend on them. Changes of the training images are left out of both, because plain `fit` has
no part for them.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.interleaved import ROOT, Peer, Row
from benchmarks.problems import players, training
from twinnet.core import config
from twinnet.core.history import Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem
from twinnet.core.schema import Augmentation, Dtype, KerasEngine
from twinnet.core.splits import Splits
from twinnet.training.experiment import build_problem

PEER = "plain model.fit"
SAMPLES, VALID = 32 * 500, 1000
CHUNK = 100  # epochs of nba_keras between two validations


def _row(name: str, unit: str, rounds: int, note: str, at_least: float | None = None) -> Row:
    """The Keras engine beside plain `fit`; `name` begins the names of their functions here."""
    peers = [
        Peer("Keras engine", f"benchmarks.keras_engine:{name}_engine"),
        Peer(PEER, f"benchmarks.keras_engine:{name}_plain", {"KERAS_BACKEND": "tensorflow"}),
    ]
    return Row(f"keras_{name}", unit, peers, {PEER: at_least} if at_least else {}, {}, rounds, f"{note}; TensorFlow")


ROWS = [
    _row("tiny", "epoch", 6, "nba_keras: 2-4-1, 354 rows, full batch, float64, loss and accuracy of each epoch"),
    _row("dense", "step", 6, f"fashion_dense_book on {SAMPLES} images, batches of 32, validation of {VALID}", 2),
    _row("cnn", "step", 3, f"fashion_cnn on {SAMPLES // 4} images, batches as in its experiment", 1),
    Row(
        "scratch_cnn",
        "image",
        [
            Peer("scratch, compiled", "benchmarks.keras_engine:cnn_by_hand"),
            Peer("Keras engine", "benchmarks.keras_engine:cnn_by_hand_in_keras"),
        ],
        at_least={},
        aim={"Keras engine": 1},
        rounds=3,
        note=f"fashion_cnn_scratch, an epoch of {SAMPLES // 4} images; the peer on TensorFlow",
    ),
]


def build_image_problem(experiment: str, samples: int) -> Problem:
    random = np.random.default_rng(0)
    described = config.experiment(config.compose(ROOT, "train", [f"experiment={experiment}", "epochs=1000"]))
    described = replace(described, augmentation=Augmentation(), label_smoothing=0.0, ema=None)
    if isinstance(described.engine, KerasEngine):
        described = replace(described, engine=replace(described.engine, mixed_precision=False))
    X = random.random((samples + VALID, 28, 28, 1), dtype=np.float32)
    y = random.integers(0, 10, len(X))
    zero, one = np.zeros(1), np.ones(1)
    splits = Splits(X[:samples], y[:samples], X[samples:], y[samples:], None, None, "synthetic", "", zero, one)
    return build_problem(described, splits, "cpu")


class Chunkwise(Monitor):
    """A monitor that lets a training in another thread go on for one chunk of epochs at a time."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.metric)
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)

        def train() -> None:
            from twinnet.core import engine as engines

            self.go.acquire()
            engines.fit(problem, self)

        threading.Thread(target=train, daemon=True).start()

    def __call__(self, chunk: Chunk) -> bool:
        stop = super().__call__(chunk)
        self.done.release()
        self.go.acquire()
        return stop

    def train(self) -> None:
        self.go.release()
        self.done.acquire()


def engine(problem: Problem) -> Callable[[], int]:
    chunkwise, steps = Chunkwise(problem), len(next(problem.chunks())) * problem.steps_per_epoch

    def train() -> int:
        chunkwise.train()
        return steps

    return train


def plain(problem: Problem, loss: str = "sparse_categorical_crossentropy", epochs: int = 1) -> Callable[[], int]:
    """The same layers, weights, optimizer and batches in `compile` and `fit` with nothing but their defaults."""
    from twinnet.engines.keras import build, optimizers

    dtype = problem.engine.dtype.value
    network = build.build_model(problem.network, problem.weights, dtype, problem.seed)
    network.compile(optimizers.build_optimizer(problem, network, dtype), loss, metrics=["accuracy"])
    order = problem.order(0)
    X, y, valid = problem.X_train[order], problem.y_train[order], (problem.X_valid, problem.y_valid)

    def train() -> int:
        network.fit(
            X, y, problem.batch_size, epochs, shuffle=False, verbose=0, validation_data=valid, validation_freq=epochs
        )
        return problem.steps_per_epoch * epochs

    return train


def players_in_keras() -> Problem:
    return replace(players("numpy", 1000 * CHUNK), engine=KerasEngine(dtype=Dtype.float64))


def tiny_engine() -> Callable[[], int]:
    return engine(players_in_keras())


def tiny_plain() -> Callable[[], int]:
    return plain(players_in_keras(), "binary_crossentropy", CHUNK)


def dense_engine() -> Callable[[], int]:
    return engine(build_image_problem("fashion_dense_book", SAMPLES))


def dense_plain() -> Callable[[], int]:
    return plain(build_image_problem("fashion_dense_book", SAMPLES))


def cnn_engine() -> Callable[[], int]:
    return engine(build_image_problem("fashion_cnn", SAMPLES // 4))


def cnn_plain() -> Callable[[], int]:
    return plain(build_image_problem("fashion_cnn", SAMPLES // 4))


def cnn_by_hand() -> Callable[[], int]:
    problem = replace(build_image_problem("fashion_cnn_scratch", SAMPLES // 4), epochs=1)
    return training(problem, len(problem.X_train))


def cnn_by_hand_in_keras() -> Callable[[], int]:
    problem = replace(build_image_problem("fashion_cnn_scratch", SAMPLES // 4), engine=KerasEngine())
    epoch = engine(problem)
    return lambda: epoch() * len(problem.X_train) // problem.steps_per_epoch
