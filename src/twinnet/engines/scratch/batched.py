"""Many trainings of one shape at once: the compiled program, `vmap`ped over weights, seeds and learning rates."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from joblib import cpu_count

from twinnet.core.errors import ConfigError, DivergedError
from twinnet.core.history import Chunk
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem
from twinnet.engines.scratch.arrays import Parameters
from twinnet.engines.scratch.jax_trainer import Compiled
from twinnet.engines.scratch.jit import compile_chunks
from twinnet.engines.scratch.trainer import groups

CACHED = 1 << 17  # activations of a block of trainings, so many that they stay in a core's cache


class Block:
    """Trainings that advance in step, in one compiled call of one thread (or of one GPU)."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        members = [Compiled(problem) for problem in problems]
        self.members, first = members, members[0]
        self.together, self.size = first.together, replace(first.size, thinned=True)
        self.compiled = compile_chunks(first.recipe, self.size, first.problem.device == "cpu", several=True)
        with first.context():
            self.carry = jax.tree.map(lambda *each: jnp.stack(each), *(member.carry for member in members))
            self.rates = jnp.stack([member.rate for member in members])

    def run(self, chunks: list[range]) -> list[list[Chunk]]:
        """For each training its chunks; see `loop.Trainer`."""
        length, epochs = len(chunks[0]), range(chunks[0].start, chunks[-1].stop)
        first = self.members[0]
        with first.context():
            drawn = [(member.orders(epochs), member.drawn_masks(epochs)) for member in self.members]
            orders, masks = jax.tree.map(lambda *each: np.stack(each), *drawn)
            self.carry, train, valid = self.compiled(
                self.carry, self.rates, first.data, orders, masks, len(chunks), length
            )
            train, valid = (np.stack(measured, axis=1).astype(float) for measured in (train, valid))
        return [
            [Chunk(losses[[i]], metrics[[i]], valid_losses[i], valid_metrics[i], length) for i in range(len(chunks))]
            for (losses, metrics), (valid_losses, valid_metrics) in zip(train, valid, strict=True)
        ]

    def parameters(self, number: int) -> Parameters:
        """A copy of one training's weights; see `loop.Trainer`."""
        return jax.tree.map(lambda value: np.array(value[number]), self.carry[0])


@dataclass
class Outcome:
    """What has become of one training of a block."""

    monitor: Monitor
    ended: bool = False
    best: Parameters | None = None
    error: DivergedError | None = None

    def tell(self, chunks: list[Chunk], parameters: Callable[[], Parameters]) -> None:
        """Report chunks to the monitor; where it ends the training, the weights are those of now or the best."""
        if self.ended:
            return
        try:
            for chunk in chunks:
                self.ended = self.monitor(chunk)
        except DivergedError as error:
            self.ended, self.error = True, error
        if self.monitor.improved or (self.ended and self.best is None):
            self.best = parameters()


def train_batched(problems: Sequence[Problem], monitors: Sequence[Monitor]) -> list[Parameters | DivergedError]:
    """The weights of each training, as `loop.train` would give them, or the error that it ended with.

    Raises ConfigError where the problems are not of one shape and on the same data.
    """
    _check_alike(problems)
    parts = list(_parts(list(zip(problems, monitors, strict=True))))
    blocks = [Block([problem for problem, _ in part]) for part in parts]
    outcomes = [[Outcome(monitor) for _, monitor in part] for part in parts]
    patient = all(monitor.early_stopping.patience is None for monitor in monitors)
    with ThreadPoolExecutor(_workers(problems[0])) as pool:
        for chunks in groups(list(problems[0].chunks()), blocks[0].together if patient else 1):
            active = [i for i, part in enumerate(outcomes) if not all(outcome.ended for outcome in part)]
            running = [pool.submit(blocks[i].run, chunks) for i in active]
            for i, future in zip(active, running, strict=True):
                for number, (outcome, own) in enumerate(zip(outcomes[i], future.result(), strict=True)):
                    outcome.tell(own, partial(blocks[i].parameters, number))
    return [
        outcome.error or outcome.best or block.parameters(number)
        for block, part in zip(blocks, outcomes, strict=True)
        for number, outcome in enumerate(part)
    ]


def _check_alike(problems: Sequence[Problem]) -> None:
    """Only weights, seeds and learning rates may differ."""
    first = problems[0]
    for i, problem in enumerate(problems):
        alike = replace(
            problem,
            weights=first.weights,
            seed=first.seed,
            optimizer=replace(problem.optimizer, learning_rate=first.optimizer.learning_rate),
        )
        for field in fields(Problem):
            if not _same(getattr(alike, field.name), getattr(first, field.name)):
                raise ConfigError(
                    f"{field.name}: expected the same in all configurations that are trained together; "
                    f"configuration {i} has another; train it alone"
                )


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one is other or np.array_equal(one, other)
    return one == other


def _parts(members: list[tuple[Problem, Monitor]]) -> Iterator[list[tuple[Problem, Monitor]]]:
    """Blocks of equal length, one at least for each worker; on a GPU one block."""
    problem, _ = members[0]
    activations = problem.batch_size * sum(map(prod, problem.network.shapes()))
    most = len(members) if problem.device == "gpu" else max(1, CACHED // activations)
    count = max(-(-len(members) // most), min(_workers(problem), len(members)))
    length = -(-len(members) // count)
    for start in range(0, len(members), length):
        yield members[start : start + length]


def _workers(problem: Problem) -> int:
    if problem.device == "gpu":
        return 1
    return problem.engine.threads or cpu_count()
