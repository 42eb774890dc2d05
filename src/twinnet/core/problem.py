"""A problem that an engine solves, and the trained network that it returns.

An engine is a module with `gpus(engine)`, `load(file, engine)` and `fit(problem, monitor) -> TrainedNetwork`. `fit`
trains `problem.chunks()` one after the other. For each epoch it records the loss and the metric over the training
samples as they are met, each before the update that follows it (with one batch an epoch: of the weights at the start of
the epoch; with several: the average over the batches, weighted by their size). At the end of each chunk it evaluates
the validation split and calls `monitor(chunk)`; if `monitor.improved`, it keeps a copy of the weights; if the call
returns True, it stops.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from twinnet.core.history import MAX_RECORDS
from twinnet.core.network import Network, Weights
from twinnet.core.schema import Augmentation, Engine, Loss, Optimizer, Task


@dataclass(frozen=True)
class Problem:
    """Everything that determines a training. X is (samples, *input shape) in the engine's dtype; y is (samples,)."""

    network: Network
    weights: Weights
    loss: Loss
    task: Task
    optimizer: Optimizer
    engine: Engine
    X_train: np.ndarray
    y_train: np.ndarray
    X_valid: np.ndarray
    y_valid: np.ndarray
    epochs: int
    batch_size: int  # at most the number of training samples
    seed: int
    device: str  # "cpu" or "gpu"
    augmentation: Augmentation = field(default_factory=Augmentation)
    label_smoothing: float = 0.0
    ema: float | None = None

    @property
    def metric(self) -> str:
        """`accuracy` for classes, `mae` (mean absolute error) for regression."""
        return metric(self.task)

    @property
    def full_batch(self) -> bool:
        return self.batch_size >= len(self.X_train)

    @property
    def steps_per_epoch(self) -> int:
        """The last batch of an epoch may be smaller; none is dropped."""
        return -(-len(self.X_train) // self.batch_size)

    def chunks(self) -> Iterator[range]:
        """The epochs, in pieces of equal length, at most MAX_RECORDS of them."""
        length = -(-self.epochs // MAX_RECORDS)
        for start in range(0, self.epochs, length):
            yield range(start, min(start + length, self.epochs))

    def order(self, epoch: int) -> np.ndarray:
        """Indices of the training samples in the order of this epoch, from (seed, epoch) alone; (samples,).

        With one batch an epoch the samples stay as they are.
        """
        samples = len(self.X_train)
        if self.full_batch:
            return np.arange(samples)
        return np.random.default_rng([self.seed, epoch]).permutation(samples)


def metric(task: Task) -> str:
    return "mae" if task is Task.regression else "accuracy"


class TrainedNetwork(Protocol):
    """A trained network, with the best weights if training stopped early."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Activations of the output layer, (samples, units): probabilities, or numbers for regression."""
        ...

    def weights(self) -> Weights:
        """Return NumPy arrays in the layout of `core.network`."""
        ...

    def save(self, directory: Path) -> Path:
        """Write the model to `directory` (model.npz or model.keras) and return its path."""
        ...
