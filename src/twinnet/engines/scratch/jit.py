"""The programs that XLA compiles: epochs and chunks of epochs as loops around a training step.

JAX's backends start when this module is imported, because XLA reads XLA_FLAGS at that moment only.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from twinnet.core import paths
from twinnet.core.augmentation import Sample, take
from twinnet.core.errors import TwinnetError, platform_errors
from twinnet.core.network import Conv2D
from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.arrays import Array, Parameters
from twinnet.engines.scratch.step import StepSpec, evaluate, inputs, step, training_inputs

# Loops over arrays of fewer bytes become one kernel. compiler_options refuses this flag.
LOOP_FLAG = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000"
CACHE = Path("build/jax_cache")
CACHE_BYTES = 1 << 28  # at most; JAX removes what was used least recently
CPU_KEYS = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")  # of Linux's /proc/cpuinfo


def _start_backends() -> None:
    """Start JAX's backends with LOOP_FLAG, and leave XLA_FLAGS as it was for TensorFlow and for child processes."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes three quarters of a GPU's memory
    flags = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{flags or ''} {LOOP_FLAG}".strip()
    try:
        with platform_errors():
            jax.devices()
    finally:
        if flags is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = flags


def _cache_programs() -> None:
    """Let JAX cache compiled programs under the checkout, unless JAX_COMPILATION_CACHE_DIR names a folder.

    They are machine code, so each CPU has a folder of its own; without a writable checkout on Linux there is no cache.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        lines = {line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith(CPU_KEYS)}
        cpu = "\n".join([*sorted(lines), str(len(os.sched_getaffinity(0)))])
        folder = paths.main_root() / CACHE / hashlib.sha256(cpu.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, TwinnetError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)  # also makes processes take turns
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
        # A damaged entry, or a full disk: JAX compiles.
        warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache entry", UserWarning)


_start_backends()
_cache_programs()

TrainState = tuple[Parameters, optimizers.State]
Masks = dict[int, Array]
Metrics = tuple[Array, Array]  # loss and metric


@dataclass(frozen=True)
class CallShape:
    """Static sizes of a compiled call."""

    batch: int
    evaluated: int  # samples at once
    chunks: int  # in a call, at most
    length: int  # of a chunk, at most


@cache
def compile_chunks(spec: StepSpec, size: CallShape, one_thread: bool) -> Callable[..., Any]:
    """Return `train_chunks` compiled for this spec; for one thread without XLA's work for several."""
    options: dict[str, Any] = {}
    if one_thread:
        options = {
            "xla_cpu_enable_concurrency_optimized_scheduler": False,
            "xla_cpu_multi_thread_eigen": False,
            "xla_cpu_prefer_vector_width": 512,
        }
        if not any(isinstance(layer, Conv2D) for layer in spec.layers):
            # That pass makes five more kernels of the sums over a small batch; sums over images round less with it.
            options["xla_disable_hlo_passes"] = "tree_reduction_rewriter"
    return jax.jit(partial(train_chunks, spec, size), donate_argnums=0, compiler_options=options)


def train_chunks(
    spec: StepSpec,
    size: CallShape,
    carry: TrainState,
    rate: Array,
    data: tuple[Array, ...],
    orders: Array | None,
    masks: tuple[Masks, Masks],
    changes: Sample,
    chunks: Array,
    length: Array,
) -> tuple[TrainState, Metrics, Metrics]:
    """Train `chunks` chunks of `length` epochs.

    Return weights and state; loss and metric of each epoch, (epochs of a call,) each; and those of the validation
    split after each chunk, (chunks of a call,) each.
    """
    X, y, X_valid, y_valid = data
    full_batch = training_inputs(spec, X, y, {}, jnp)

    def epoch(number: Array, carry: TrainState) -> tuple[TrainState, Metrics]:
        if orders is None:
            return _step(spec, rate, carry, full_batch, jax.tree.map(lambda mask: mask[number, 0], masks[0]))
        drawn = jax.tree.map(lambda array: array[number], (orders, changes, *masks))
        return _epoch(spec, size.batch, rate, carry, X, y, *drawn)

    def chunk(i: Array, carry: tuple[TrainState, Metrics, Metrics]) -> tuple[TrainState, Metrics, Metrics]:
        def record(number: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, measured = epoch(number, carry[0])
            return state, _record_at(carry[1], number, measured)

        state, train, valid = carry
        state, train = jax.lax.fori_loop(i * length, (i + 1) * length, record, (state, train))
        evaluated = _evaluate(spec, size.evaluated, optimizers.evaluated_weights(*state), X_valid, y_valid)
        return state, train, _record_at(valid, i, evaluated)

    train, valid = ((jnp.zeros(count, X.dtype),) * 2 for count in (size.chunks * size.length, size.chunks))
    return jax.lax.fori_loop(0, chunks, chunk, (carry, train, valid))


def _record_at(history: Metrics, place: Array, measured: Metrics) -> Metrics:
    return history[0].at[place].set(measured[0]), history[1].at[place].set(measured[1])


def _step(
    spec: StepSpec, rate: Array, carry: TrainState, batch: tuple[Array, Array], masks: Masks
) -> tuple[TrainState, Metrics]:
    weights, state, *measured = step(spec, *carry, rate, *batch, masks, jnp)
    return (weights, state), tuple(measured)


def _epoch(
    spec: StepSpec,
    batch: int,
    rate: Array,
    carry: TrainState,
    X: Array,
    y: Array,
    order: Array,
    changes: Sample,
    masks: Masks,
    last_masks: Masks,
) -> tuple[TrainState, Metrics]:
    """The batches of an epoch in `order`, changed as drawn, and loss and metric averaged over them."""
    samples = len(X)
    whole = samples // batch * batch

    def train_batch(carry: TrainState, chosen: tuple[Array, Sample, Masks]) -> tuple[TrainState, Metrics]:
        index, drawn, masks = chosen
        return _step(spec, rate, carry, training_inputs(spec, _rows(X, index), _rows(y, index), drawn, jnp), masks)

    def by_batch(array: Array) -> Array:
        return array[:whole].reshape(-1, batch, *array.shape[1:])

    carry, measured = jax.lax.scan(train_batch, carry, (*jax.tree.map(by_batch, (order, changes)), masks))
    loss, metric = (values.sum() * batch for values in measured)
    if whole < samples:
        last = order[whole:], take(changes, slice(whole, None)), last_masks
        carry, (last_loss, last_metric) = train_batch(carry, last)
        loss, metric = loss + last_loss * (samples - whole), metric + last_metric * (samples - whole)
    return carry, (loss / samples, metric / samples)


def _rows(array: Array, index: Array) -> Array:
    """Return the samples at `index`, which are all there: XLA then checks none of their numbers."""
    return array.at[index].get(mode="promise_in_bounds")


def _evaluate(spec: StepSpec, batch: int, weights: Parameters, X: Array, y: Array) -> Metrics:
    """Loss and metric of the samples, computed in pieces of `batch`."""

    def piece(X: Array, y: Array) -> Array:
        return jnp.stack(evaluate(spec, weights, *inputs(spec, X, y, jnp), jnp)) * len(X)

    if len(X) <= batch:
        return evaluate(spec, weights, *inputs(spec, X, y, jnp), jnp)
    whole = len(X) // batch * batch
    pieces = [array[:whole].reshape(-1, batch, *array.shape[1:]) for array in (X, y)]
    total = jax.lax.map(lambda part: piece(*part), tuple(pieces)).sum(axis=0)
    if whole < len(X):
        total += piece(X[whole:], y[whole:])
    return total[0] / len(X), total[1] / len(X)
