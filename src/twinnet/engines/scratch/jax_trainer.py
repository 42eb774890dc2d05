"""The training loop compiled by XLA: several chunks of epochs are one call, on the CPU or a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from twinnet.core import augmentation
from twinnet.core.errors import DeviceError
from twinnet.core.history import Chunk
from twinnet.core.problem import Problem
from twinnet.engines.scratch import optimizers
from twinnet.engines.scratch.arrays import Parameters, to_engine_layout
from twinnet.engines.scratch.jit import CallShape, Masks, Metrics, TrainState, compile_chunks
from twinnet.engines.scratch.step import StepSpec, expand_weights
from twinnet.engines.scratch.trainer import (
    DropoutMasks,
    evaluation_batch,
    flatten_inputs,
    is_small,
    step_spec,
    training_samples,
)

CALL_WORK = 1 << 29  # multiplications of one call at most, weights x samples, unless one chunk has more
CHUNKS_PER_CALL = 100  # at most


class JaxTrainer:
    """A training whose arrays are JAX's; see `trainer.Trainer`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.spec = step_spec(problem)
        self.masks = DropoutMasks(problem, self.spec)
        self.device = _device(problem.device)
        length = len(next(problem.chunks()))
        work = length * len(problem.X_train) * (problem.network.parameters() + self.masks.units)
        self.chunks_per_call = max(1, min(CHUNKS_PER_CALL, CALL_WORK // work))
        self.size = CallShape(problem.batch_size, evaluation_batch(problem), self.chunks_per_call, length)
        self.one_thread = problem.device == "cpu" and (problem.engine.threads == 1 or is_small(problem))
        with self.context():
            self.carry: TrainState = jax.device_put(initial_state(problem, self.spec), self.device)
            self.rate = jax.device_put(np.asarray(problem.optimizer.learning_rate, problem.X_train.dtype), self.device)
            X_train, X_valid = training_samples(problem), flatten_inputs(problem.network, problem.X_valid)
            self.data = jax.device_put((X_train, problem.y_train, X_valid, problem.y_valid), self.device)

    @contextmanager
    def context(self) -> Iterator[None]:
        with (
            jax.enable_x64(self.problem.X_train.dtype == np.float64),
            jax.default_matmul_precision("highest"),
            jax.default_device(self.device),
        ):
            yield

    def compile(self) -> None:
        """Compile the program of `run`, by a call that trains no chunk; it stays compiled in this process."""
        with self.context():
            self._call(range(1), 0, self.size.length)

    def run(self, chunks: list[range]) -> list[Chunk]:
        length, epochs = len(chunks[0]), range(chunks[0].start, chunks[-1].stop)
        train, valid = (np.asarray(measured, dtype=float) for measured in self._call(epochs, len(chunks), length))
        parts = [slice(i * length, (i + 1) * length) for i in range(len(chunks))]
        return [
            Chunk(train[0, part], train[1, part], loss, metric)
            for part, (loss, metric) in zip(parts, valid.T, strict=False)
        ]

    def _call(self, epochs: range, chunks: int, length: int) -> tuple[Metrics, Metrics]:
        self.carry, train, valid = compile_chunks(self.spec, self.size, self.one_thread)(
            self.carry,
            self.rate,
            self.data,
            self.orders(epochs),
            self.sample_masks(epochs),
            self.changes(epochs),
            chunks,
            length,
        )
        return train, valid

    def state(self) -> TrainState:
        return self.carry

    def restore(self, state: TrainState) -> None:
        self.carry = jax.device_put(state, self.device)

    def parameters(self) -> Parameters:
        return jax.tree.map(np.array, optimizers.evaluated_weights(*self.carry))

    def orders(self, epochs: range) -> np.ndarray | None:
        """(epochs of a whole call, samples), or None if a batch is all samples in their order, unchanged."""
        if augmentation.is_unchanging(self.problem):
            return None
        return self._padded(np.array([self.problem.order(epoch) for epoch in epochs], np.int32))

    def changes(self, epochs: range) -> augmentation.Sample:
        """Of the images: (epochs of a whole call, samples, …) each, in the order of the epoch."""
        if not augmentation.is_enabled(self.problem):
            return {}
        drawn = [augmentation.sample(self.problem, epoch) for epoch in epochs]
        return {name: self._padded(np.array([each[name] for each in drawn])) for name in drawn[0]}

    def sample_masks(self, epochs: range) -> tuple[Masks, Masks]:
        """Of the whole batches (epochs of a call, batches, units, samples), and of a smaller one that ends an epoch."""
        if not self.masks.layers:
            return {}, {}
        problem, steps = self.problem, self.problem.steps_per_epoch
        longest, (whole, rest) = self._longest_call, divmod(len(problem.X_train), problem.batch_size)
        shapes = {i: shape for i, (shape, _) in self.masks.layers.items()}
        masks = {i: np.zeros((longest, whole, *shape, problem.batch_size), bool) for i, shape in shapes.items()}
        last = {i: np.zeros((longest, *shape, rest), bool) for i, shape in shapes.items() if rest}
        for number, epoch in enumerate(epochs):
            for batch in range(steps):
                drawn = self.masks.draw(epoch * steps + batch, problem.batch_size if batch < whole else rest)
                for i, mask in drawn.items():
                    if batch < whole:
                        masks[i][number, batch] = mask
                    else:
                        last[i][number] = mask
        return masks, last

    @property
    def _longest_call(self) -> int:
        """Epochs of the longest call, to which arrays are padded: all calls are then the same program."""
        return self.size.chunks * self.size.length

    def _padded(self, array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, self._longest_call - len(array))] + [(0, 0)] * (array.ndim - 1))


def initial_state(problem: Problem, spec: StepSpec) -> TrainState:
    """The weights and the optimizer's state before the first step, as NumPy arrays."""
    weights = expand_weights(problem.network.layers, to_engine_layout(problem.weights))
    return weights, optimizers.init_state(spec.optimizer, weights, problem.ema)


def gpus() -> list[str]:
    """Return the names of the GPUs that JAX finds."""
    return [device.device_kind for device in jax.devices() if device.platform == "gpu"]


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise DeviceError(
            f"device={name}: expected one that JAX can use; received {jax.default_backend()} only; "
            "use device=auto, or install the extra `gpu`"
        ) from error
