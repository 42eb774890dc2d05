"""The same functions compiled by XLA: a whole chunk of epochs is one call, on the CPU or a GPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

# JAX takes three quarters of a GPU's memory when it starts, unless told before.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

from twinnet.engines.contract import Chunk, Problem
from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.arrays import Array, Parameters, inward
from twinnet.engines.scratch.loop import Masks, evaluation_batch, program, rows, threads
from twinnet.engines.scratch.propagation import Recipe, evaluate, inputs, spread, step
from twinnet.errors import DeviceError

WORK = 1 << 29  # multiplications that one call is given, where it can have several chunks
TOGETHER = 25  # chunks in one call at most
Carry = tuple[Parameters, optimizers.State]
Masked = dict[int, Array]


class Compiled:
    """A training whose arrays are JAX's; see `loop.Trainer`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.recipe = program(problem)
        self.masks = Masks(problem, self.recipe)
        self.device = _device(problem.device)
        length = len(next(problem.chunks()))
        work = length * len(problem.X_train) * (problem.network.parameters() + self.masks.units)
        self.together = max(1, min(TOGETHER, WORK // work))
        self.size = Size(problem.batch_size, evaluation_batch(problem), self.together, length)
        self.compiled = _compile(self.recipe, self.size, problem.device == "cpu" and threads(problem) == 1)
        with self.context():
            weights = spread(problem.network.layers, inward(problem.weights))
            self.carry: Carry = jax.device_put(
                (weights, optimizers.start(self.recipe.optimizer, weights, np)), self.device
            )
            self.rate = jnp.asarray(problem.optimizer.learning_rate, problem.X_train.dtype)
            X_train, X_valid = rows(problem.network, problem.X_train), rows(problem.network, problem.X_valid)
            self.data = jax.device_put((X_train, problem.y_train, X_valid, problem.y_valid), self.device)

    @contextmanager
    def context(self) -> Iterator[None]:
        with (
            jax.enable_x64(self.problem.X_train.dtype == np.float64),
            jax.default_matmul_precision("highest"),
            jax.default_device(self.device),
        ):
            yield

    def run(self, chunks: list[range]) -> list[Chunk]:
        length, epochs = len(chunks[0]), range(chunks[0].start, chunks[-1].stop)
        self.carry, train, valid = self.compiled(
            self.carry, self.rate, self.data, self._orders(epochs), self._masks(epochs), len(chunks), length
        )
        train, valid = np.asarray(train, dtype=float), np.asarray(valid, dtype=float)
        parts = [slice(i * length, (i + 1) * length) for i in range(len(chunks))]
        return [
            Chunk(train[0, part], train[1, part], loss, metric)
            for part, (loss, metric) in zip(parts, valid.T, strict=False)
        ]

    def parameters(self) -> Parameters:
        return jax.tree.map(np.array, self.carry[0])

    def _orders(self, epochs: range) -> np.ndarray | None:
        """(epochs of a whole call, samples), or None where a batch is all samples as they are."""
        if self.problem.full_batch:
            return None
        return self._padded(np.array([self.problem.order(epoch) for epoch in epochs], np.int32))

    def _masks(self, epochs: range) -> tuple[Masked, Masked]:
        """Of the whole batches (epochs of a call, batches, units, samples), and of a smaller one that ends an epoch."""
        problem, steps = self.problem, self.problem.steps_per_epoch
        if not self.masks.layers:
            return {}, {}
        whole, rest = divmod(len(problem.X_train), problem.batch_size)
        sizes = [problem.batch_size] * whole + [rest] * (rest > 0)
        drawn = [[self.masks.draw(epoch * steps + i, size) for i, size in enumerate(sizes)] for epoch in epochs]
        return (
            {i: self._padded(np.array([[step[i] for step in epoch[:whole]] for epoch in drawn])) for i in drawn[0][0]},
            {i: self._padded(np.array([epoch[-1][i] for epoch in drawn])) for i in drawn[0][0] if rest},
        )

    def _padded(self, array: np.ndarray) -> np.ndarray:
        """With as many epochs as any call has, so that all calls are the same program."""
        missing = self.size.chunks * self.size.length - len(array)
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))


@dataclass(frozen=True)
class Size:
    """What settles the shapes of a compiled call besides its arguments."""

    batch: int
    evaluated: int  # samples at once
    chunks: int  # in a call, at most
    length: int  # of a chunk, at most


@cache
def _compile(recipe: Recipe, size: Size, one_thread: bool) -> Callable[..., Any]:
    """`_chunks` of this recipe; for one thread without the machinery that hands work to others."""
    options: dict[str, Any] = {}
    if one_thread:
        options = {
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
            "xla_cpu_prefer_vector_width": 512,
        }
    return jax.jit(partial(_chunks, recipe, size), donate_argnums=0, compiler_options=options)


def _chunks(
    recipe: Recipe,
    size: Size,
    carry: Carry,
    rate: Array,
    data: tuple[Array, ...],
    orders: Array | None,
    masks: tuple[Masked, Masked],
    chunks: Array,
    length: Array,
) -> tuple[Carry, Array, Array]:
    """Train `chunks` chunks of `length` epochs.

    Gives weights and state; loss and metric of each epoch, (2, epochs of a call); and those of the validation split
    after each chunk, (2, chunks of a call).
    """
    X, y, X_valid, y_valid = data
    everything = inputs(recipe, X, y, jnp)

    def epoch(number: Array, carry: Carry) -> tuple[Carry, Array]:
        if orders is None:
            return _step(recipe, rate, carry, everything, jax.tree.map(lambda mask: mask[number, 0], masks[0]))
        return _epoch(
            recipe, size.batch, rate, carry, X, y, *jax.tree.map(lambda array: array[number], (orders, *masks))
        )

    def chunk(i: Array, held: tuple[Carry, Array, Array]) -> tuple[Carry, Array, Array]:
        def record(number: Array, held: tuple[Carry, Array]) -> tuple[Carry, Array]:
            carry, measured = epoch(number, held[0])
            return carry, held[1].at[:, number].set(measured)

        carry, train, valid = held
        carry, train = jax.lax.fori_loop(i * length, (i + 1) * length, record, (carry, train))
        return carry, train, valid.at[:, i].set(_evaluate(recipe, size.evaluated, carry[0], X_valid, y_valid))

    train, valid = jnp.zeros((2, size.chunks * size.length), X.dtype), jnp.zeros((2, size.chunks), X.dtype)
    return jax.lax.fori_loop(0, chunks, chunk, (carry, train, valid))


def _step(recipe: Recipe, rate: Array, carry: Carry, batch: tuple[Array, Array], masks: Masked) -> tuple[Carry, Array]:
    weights, state, loss, metric = step(recipe, *carry, rate, *batch, masks, jnp)
    return (weights, state), jnp.stack([loss, metric])


def _epoch(
    recipe: Recipe,
    batch: int,
    rate: Array,
    carry: Carry,
    X: Array,
    y: Array,
    order: Array,
    masks: Masked,
    last_masks: Masked,
) -> tuple[Carry, Array]:
    """The batches of an epoch in `order`, and loss and metric averaged over them."""
    samples = len(X)
    whole = samples // batch * batch

    def one(carry: Carry, chosen: tuple[Array, Masked]) -> tuple[Carry, Array]:
        index, masks = chosen
        return _step(recipe, rate, carry, inputs(recipe, X[index], y[index], jnp), masks)

    carry, measured = jax.lax.scan(one, carry, (order[:whole].reshape(-1, batch), masks))
    total = measured.sum(axis=0) * batch
    if whole < samples:
        carry, measured = one(carry, (order[whole:], last_masks))
        total += measured * (samples - whole)
    return carry, total / samples


def _evaluate(recipe: Recipe, batch: int, weights: Parameters, X: Array, y: Array) -> Array:
    """Loss and metric of the samples, (2,), computed in pieces of `batch`."""

    def piece(X: Array, y: Array) -> Array:
        return jnp.stack(evaluate(recipe, weights, *inputs(recipe, X, y, jnp), jnp)) * len(X)

    whole = len(X) // batch * batch
    pieces = [array[:whole].reshape(-1, batch, *array.shape[1:]) for array in (X, y)]
    total = jax.lax.map(lambda part: piece(*part), tuple(pieces)).sum(axis=0)
    if whole < len(X):
        total += piece(X[whole:], y[whole:])
    return total / len(X)


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise DeviceError(
            f"device={name}: expected one that JAX can use; received {jax.default_backend()} only; "
            "use device=auto, or install the extra `gpu`"
        ) from error
