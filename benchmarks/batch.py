"""256 configurations of 2-4-1 (initial weights and learning rates of their own): at once, and one after the other."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.interleaved import Peer, Row
from benchmarks.problems import batched_training, players, training
from twinnet.core.problem import Problem

CONFIGURATIONS, EPOCHS = 256, 100_000
SLICE = 4  # of the configurations, where they are trained one after the other
SHORT = 20_000  # epochs of the reference

ROWS = [
    Row(
        "batch",
        "configuration and epoch",
        [
            Peer("scratch, at once", "benchmarks.batch:train_batched"),
            Peer("compiled, one after the other", "benchmarks.batch:train_singly"),
            Peer("reference, one after the other", "benchmarks.batch:reference"),
        ],
        at_least={"compiled, one after the other": 1.5},
        aim={"compiled, one after the other": 2},
        rounds=2,
        note=f"{CONFIGURATIONS} configurations of {EPOCHS} epochs; {SLICE} of them one after the other",
    )
]


def train_batched() -> Callable[[], int]:
    problems = [configuration("jax", EPOCHS, seed) for seed in range(CONFIGURATIONS)]
    return batched_training(problems, CONFIGURATIONS * EPOCHS)


def train_singly(array: str = "jax", count: int = SLICE, epochs: int = EPOCHS) -> Callable[[], int]:
    trainings = [training(configuration(array, epochs, seed), epochs) for seed in range(count)]
    return lambda: sum(train() for train in trainings)


reference = partial(train_singly, "numpy", 1, SHORT)


def configuration(array: str, epochs: int, seed: int) -> Problem:
    problem = players(array, epochs, seed)
    return replace(problem, optimizer=replace(problem.optimizer, learning_rate=0.001 * (1 + seed / CONFIGURATIONS)))
