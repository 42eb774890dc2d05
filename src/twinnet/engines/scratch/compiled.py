"""The same functions compiled by XLA: a whole chunk of epochs is one call, on the CPU or a GPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
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

BLOCK = 1 << 26  # numbers of batch order and dropout masks that are handed over in one call
Carry = tuple[Parameters, optimizers.State]


class Compiled:
    """A training whose arrays are JAX's; see `loop.Trainer`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.recipe = program(problem)
        self.masks = Masks(problem, self.recipe)
        self.device = _device(problem.device)
        self.compiled = _compiler(threads(problem), problem.device)
        with self.context():
            weights = jax.device_put(spread(problem.network.layers, inward(problem.weights)), self.device)
            self.carry: Carry = (weights, optimizers.start(self.recipe.optimizer, weights, jnp))
            self.rate = jnp.asarray(problem.optimizer.learning_rate, problem.X_train.dtype)
            self.data = jax.device_put(
                (
                    rows(problem.network, problem.X_train),
                    problem.y_train,
                    rows(problem.network, problem.X_valid),
                    problem.y_valid,
                ),
                self.device,
            )

    def run(self, epochs: range) -> Chunk:
        recorded = []
        for block in self._blocks(epochs):
            self.carry, train, valid = self.compiled(
                self.recipe,
                self.problem.batch_size,
                evaluation_batch(self.problem),
                len(block),
                self.carry,
                self.rate,
                self.data,
                self._orders(block),
                self._masks(block),
            )
            recorded.append(train)
        values = np.concatenate([np.asarray(train) for train in recorded], axis=1).astype(float)
        loss, metric = np.asarray(valid, dtype=float)
        return Chunk(*values, loss, metric)

    def parameters(self) -> Parameters:
        return jax.tree.map(np.array, self.carry[0])

    @contextmanager
    def context(self) -> Iterator[None]:
        with jax.enable_x64(self.problem.X_train.dtype == np.float64), jax.default_device(self.device):
            yield

    def _blocks(self, epochs: range) -> Iterator[range]:
        """The epochs in pieces whose batch order and masks fit in memory."""
        if self.problem.full_batch and not self.recipe.dropouts:
            yield epochs
            return
        length = max(1, BLOCK // (len(self.problem.X_train) * (4 + self.masks.units)))
        for start in range(epochs.start, epochs.stop, length):
            yield range(start, min(start + length, epochs.stop))

    def _orders(self, epochs: range) -> np.ndarray | None:
        """(epochs, samples), or None where a batch is all samples as they are."""
        if self.problem.full_batch:
            return None
        return np.stack([self.problem.order(epoch) for epoch in epochs]).astype(np.int32)

    def _masks(self, epochs: range) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Of the whole batches (epochs, batches, units, samples), and of the smaller one that may end an epoch."""
        problem = self.problem
        whole, rest = divmod(len(problem.X_train), problem.batch_size)
        draws = [
            [
                self.masks.draw(
                    epoch * problem.steps_per_epoch + number, problem.batch_size if number < whole else rest
                )
                for number in range(problem.steps_per_epoch)
            ]
            for epoch in epochs
        ]
        return (
            {i: np.array([[draw[i] for draw in epoch[:whole]] for epoch in draws]) for i in self.recipe.dropouts},
            {i: np.array([epoch[-1][i] for epoch in draws]) for i in self.recipe.dropouts if rest},
        )


@cache
def _compiler(threads: int | None, device: str) -> Callable[..., tuple[Carry, Array, Array]]:
    """`_epochs`, compiled; for one thread without the machinery that hands work to others."""
    options: dict[str, Any] = {}
    if device == "cpu" and threads == 1:
        options = {
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
            "xla_cpu_prefer_vector_width": 512,
        }
    return jax.jit(_epochs, static_argnums=(0, 1, 2, 3), donate_argnums=4, compiler_options=options)


def _epochs(
    recipe: Recipe,
    batch: int,
    evaluated: int,
    epochs: int,
    carry: Carry,
    rate: Array,
    data: tuple[Array, ...],
    orders: Array | None,
    masks: tuple[dict[int, Array], dict[int, Array]],
) -> tuple[Carry, Array, Array]:
    """Weights and state after the epochs; loss and metric of each, (2, epochs); those of the validation split, (2,)."""
    X, y, X_valid, y_valid = data
    samples = len(X)
    whole = samples // batch * batch
    everything = inputs(recipe, X, y, jnp) if orders is None else None

    def one_step(carry: Carry, chosen: Any) -> tuple[Carry, Array]:
        index, masks = chosen
        A, Y = everything if index is None else inputs(recipe, X[index], y[index], jnp)
        *carry, loss, metric = step(recipe, *carry, rate, A, Y, masks, jnp)
        return tuple(carry), jnp.stack([loss, metric])

    def one_epoch(carry: Carry, chosen: Any) -> tuple[Carry, Array]:
        order, masks, last_masks = chosen
        if order is None:
            return one_step(carry, (None, jax.tree.map(lambda mask: mask[0], masks)))
        carry, measured = jax.lax.scan(one_step, carry, (order[:whole].reshape(-1, batch), masks))
        total = measured.sum(axis=0) * batch
        if whole < samples:
            carry, measured = one_step(carry, (order[whole:], last_masks))
            total += measured * (samples - whole)
        return carry, total / samples

    carry, recorded = jax.lax.scan(one_epoch, carry, (orders, *masks), length=epochs)
    return carry, recorded.T, _evaluate(recipe, evaluated, carry[0], X_valid, y_valid)


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
