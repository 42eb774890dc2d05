"""The programs that XLA compiles: epochs and chunks of epochs as loops around a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.arrays import Array, Parameters
from twinnet.engines.scratch.step import Recipe, evaluate, inputs, step

Carry = tuple[Parameters, optimizers.State]
Masked = dict[int, Array]
Measured = tuple[Array, Array]  # loss and metric


@dataclass(frozen=True)
class Size:
    """What settles the shapes of a compiled call besides its arguments."""

    batch: int
    evaluated: int  # samples at once
    chunks: int  # in a call, at most
    length: int  # of a chunk, at most


@cache
def compile_chunks(recipe: Recipe, size: Size, one_thread: bool) -> Callable[..., Any]:
    """`train_chunks` of this recipe; for one thread without the machinery that hands work to others."""
    options: dict[str, Any] = {}
    if one_thread:
        options = {
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
            "xla_cpu_prefer_vector_width": 512,
        }
    return jax.jit(partial(train_chunks, recipe, size), donate_argnums=0, compiler_options=options)


def train_chunks(
    recipe: Recipe,
    size: Size,
    carry: Carry,
    rate: Array,
    data: tuple[Array, ...],
    orders: Array | None,
    masks: tuple[Masked, Masked],
    chunks: Array,
    length: Array,
) -> tuple[Carry, Measured, Measured]:
    """Train `chunks` chunks of `length` epochs.

    Return weights and state; loss and metric of each epoch, (epochs of a call,) each; and those of the validation
    split after each chunk, (chunks of a call,) each.
    """
    X, y, X_valid, y_valid = data
    everything = inputs(recipe, X, y, jnp)

    def epoch(number: Array, carry: Carry) -> tuple[Carry, Measured]:
        if orders is None:
            return _step(recipe, rate, carry, everything, jax.tree.map(lambda mask: mask[number, 0], masks[0]))
        return _epoch(
            recipe, size.batch, rate, carry, X, y, *jax.tree.map(lambda array: array[number], (orders, *masks))
        )

    def chunk(i: Array, held: tuple[Carry, Measured, Measured]) -> tuple[Carry, Measured, Measured]:
        def record(number: Array, held: tuple[Carry, Measured]) -> tuple[Carry, Measured]:
            carry, measured = epoch(number, held[0])
            return carry, _written(held[1], number, measured)

        carry, train, valid = held
        carry, train = jax.lax.fori_loop(i * length, (i + 1) * length, record, (carry, train))
        evaluated = _evaluate(recipe, size.evaluated, carry[0], X_valid, y_valid)
        return carry, train, _written(valid, i, evaluated)

    train, valid = ((jnp.zeros(count, X.dtype),) * 2 for count in (size.chunks * size.length, size.chunks))
    return jax.lax.fori_loop(0, chunks, chunk, (carry, train, valid))


def _written(history: Measured, place: Array, measured: Measured) -> Measured:
    return history[0].at[place].set(measured[0]), history[1].at[place].set(measured[1])


def _step(
    recipe: Recipe, rate: Array, carry: Carry, batch: tuple[Array, Array], masks: Masked
) -> tuple[Carry, Measured]:
    weights, state, *measured = step(recipe, *carry, rate, *batch, masks, jnp)
    return (weights, state), tuple(measured)


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
) -> tuple[Carry, Measured]:
    """The batches of an epoch in `order`, and loss and metric averaged over them."""
    samples = len(X)
    whole = samples // batch * batch

    def one(carry: Carry, chosen: tuple[Array, Masked]) -> tuple[Carry, Measured]:
        index, masks = chosen
        return _step(recipe, rate, carry, inputs(recipe, X[index], y[index], jnp), masks)

    carry, measured = jax.lax.scan(one, carry, (order[:whole].reshape(-1, batch), masks))
    loss, metric = (values.sum() * batch for values in measured)
    if whole < samples:
        carry, (last_loss, last_metric) = one(carry, (order[whole:], last_masks))
        loss, metric = loss + last_loss * (samples - whole), metric + last_metric * (samples - whole)
    return carry, (loss / samples, metric / samples)


def _evaluate(recipe: Recipe, batch: int, weights: Parameters, X: Array, y: Array) -> Measured:
    """Loss and metric of the samples, computed in pieces of `batch`."""

    def piece(X: Array, y: Array) -> Array:
        return jnp.stack(evaluate(recipe, weights, *inputs(recipe, X, y, jnp), jnp)) * len(X)

    if len(X) <= batch:
        return evaluate(recipe, weights, *inputs(recipe, X, y, jnp), jnp)
    whole = len(X) // batch * batch
    pieces = [array[:whole].reshape(-1, batch, *array.shape[1:]) for array in (X, y)]
    total = jax.lax.map(lambda part: piece(*part), tuple(pieces)).sum(axis=0)
    if whole < len(X):
        total += piece(X[whole:], y[whole:])
    return total[0] / len(X), total[1] / len(X)
