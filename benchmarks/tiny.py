"""The chapter's network, 2-4-1 on 354 rows: one training with loss and accuracy of each of 100,000 epochs recorded."""

from collections.abc import Callable

import numpy as np

from benchmarks.interleaved import Peer, Row
from benchmarks.problems import players, training
from benchmarks.textbook import Textbook

EPOCHS = 100_000
SLICE = 10_000  # epochs of the textbook in a slice

ONE = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROWS = [
    Row(
        "tiny",
        "epoch",
        [
            Peer("scratch, compiled", "benchmarks.tiny:compiled", ONE, cores=1),
            Peer("textbook", "benchmarks.tiny:textbook", ONE, cores=1),
        ],
        at_least={"textbook": 20},
        aim={"textbook": 24},
        rounds=9,
        note=f"whole trainings of {EPOCHS} epochs with their history, one core, compiled before; the textbook {SLICE}",
    ),
    Row(
        "reference",
        "epoch",
        [
            Peer("scratch, reference", "benchmarks.tiny:reference", ONE, cores=1),
            Peer("textbook", "benchmarks.tiny:textbook", ONE, cores=1),
        ],
        at_least={"textbook": 1.5},
        aim={"textbook": 2.2},
        rounds=5,
        note="the same in NumPy, bit for bit the textbook's losses",
    ),
]


def compiled() -> Callable[[], int]:
    return training(players("jax", EPOCHS), EPOCHS)


def reference() -> Callable[[], int]:
    return training(players("numpy", EPOCHS), EPOCHS)


def textbook() -> Callable[[], int]:
    problem = players("numpy", SLICE)
    network = Textbook([2, 4, 1], seed=0)

    def train() -> int:
        losses, _ = network.fit(problem.X_train, problem.y_train, SLICE, problem.optimizer.learning_rate)
        assert np.isfinite(losses[-1])
        return SLICE

    return train
