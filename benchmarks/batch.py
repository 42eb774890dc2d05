"""256 configurations of 2-4-1 (initial weights and learning rates of their own): at once, and one after the other."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.interleaved import Peer, Row
from benchmarks.problems import players
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem

CONFIGURATIONS, EPOCHS = 256, 100_000
SLICE = 4  # of the configurations, where they are trained one after the other
SHORT = 20_000  # epochs of the reference

ROWS = [
    Row(
        "batch",
        "configuration and epoch",
        [
            Peer("scratch, at once", "benchmarks.batch:at_once"),
            Peer("compiled, one after the other", "benchmarks.batch:alone"),
            Peer("reference, one after the other", "benchmarks.batch:reference"),
        ],
        at_least={"compiled, one after the other": 1.5},
        aim={"compiled, one after the other": 2},
        rounds=2,
        note=f"{CONFIGURATIONS} configurations of {EPOCHS} epochs; {SLICE} of them one after the other",
    )
]


def at_once() -> Callable[[], int]:
    from twinnet.engines import scratch

    problems = [configuration("jax", EPOCHS, seed) for seed in range(CONFIGURATIONS)]

    def train() -> int:
        scratch.fit_batched(problems, [Monitor(problem.metric) for problem in problems])
        return CONFIGURATIONS * EPOCHS

    return train


def alone() -> Callable[[], int]:
    return _one_after_the_other("jax", SLICE, EPOCHS)


def reference() -> Callable[[], int]:
    return _one_after_the_other("numpy", 1, SHORT)


def _one_after_the_other(array: str, count: int, epochs: int) -> Callable[[], int]:
    from twinnet.core import engine

    problems = [configuration(array, epochs, seed) for seed in range(count)]

    def train() -> int:
        for problem in problems:
            engine.fit(problem, Monitor(problem.metric))
        return count * epochs

    return train


def configuration(array: str, epochs: int, seed: int) -> Problem:
    problem = players(array, epochs, seed)
    return replace(problem, optimizer=replace(problem.optimizer, learning_rate=0.001 * (1 + seed / CONFIGURATIONS)))
