"""The contract that both engines keep: what they are given, what they report, what they return.

An engine is a module with one function, `fit(problem, monitor) -> FittedNetwork`. It trains `problem.chunks()` one
after the other. For each epoch it records the loss and the metric over the training samples as they are met, each
before the update that follows it (with one batch an epoch: of the weights at the start of the epoch; with several:
the average over the batches, weighted by their size). At the end of each chunk it evaluates the validation split and
calls `monitor(chunk)`; where `monitor.improved` it keeps a copy of the weights, and where the call returns True it
stops.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from twinnet.core.errors import DivergedError
from twinnet.core.network import Network, Weights
from twinnet.core.schema import Augmentation, EarlyStopping, Engine, Loss, Optimizer, Task

MAX_RECORDS = 1000  # rows of history.csv, evaluations of the validation split


@dataclass(frozen=True)
class Problem:
    """Everything that settles a training. X is (samples, *input shape) in the engine's dtype; y is (samples,)."""

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
    device: str  # "cpu" or "gpu", already settled
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


@dataclass(frozen=True)
class Chunk:
    """What an engine reports after some epochs: one value for each epoch, then the validation split at their end."""

    train_loss: np.ndarray
    train_metric: np.ndarray
    valid_loss: float
    valid_metric: float
    epochs: int | None = None  # how many, in a thinned history: one value of the last epoch then stands for all


class FittedNetwork(Protocol):
    """A trained network, with the best weights where training stopped early."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Activations of the output layer, (samples, units): probabilities, or numbers for regression."""
        ...

    def weights(self) -> Weights:
        """As NumPy arrays, in the layout of `networks`."""
        ...

    def save(self, directory: Path) -> Path:
        """Write the model to `directory` (model.npz or model.keras) and return its path."""
        ...


@dataclass
class History:
    """Curves of one training: a value each epoch for the training samples, one each chunk for the validation split."""

    metric: str = "accuracy"
    train_loss: list[np.ndarray] = field(default_factory=list)
    train_metric: list[np.ndarray] = field(default_factory=list)
    valid_epoch: list[int] = field(default_factory=list)  # counted from 1: after this many epochs
    valid_loss: list[float] = field(default_factory=list)
    valid_metric: list[float] = field(default_factory=list)

    @classmethod
    def restore(cls, metric: str, arrays: Mapping[str, np.ndarray]) -> "History":
        """The history of which these are the `arrays()`; not of a thinned one."""
        ends = arrays["valid_epoch"][:-1]
        return cls(
            metric,
            np.split(arrays["train/loss"], ends),
            np.split(arrays[f"train/{metric}"], ends),
            arrays["valid_epoch"].tolist(),
            arrays["valid/loss"].tolist(),
            arrays[f"valid/{metric}"].tolist(),
        )

    @property
    def epochs(self) -> int:
        return self.valid_epoch[-1] if self.valid_epoch else 0

    def append(self, chunk: Chunk) -> None:
        self.train_loss.append(np.asarray(chunk.train_loss, dtype=float))
        self.train_metric.append(np.asarray(chunk.train_metric, dtype=float))
        self.valid_epoch.append(self.epochs + (chunk.epochs or len(chunk.train_loss)))
        self.valid_loss.append(float(chunk.valid_loss))
        self.valid_metric.append(float(chunk.valid_metric))

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole history under the contract's names; train/… are (epochs,), valid/… and valid_epoch (chunks,).

        In a thinned history train/… are (chunks,) too: those of the epochs in valid_epoch.
        """
        return {
            "train/loss": np.concatenate(self.train_loss or [np.empty(0)]),
            f"train/{self.metric}": np.concatenate(self.train_metric or [np.empty(0)]),
            "valid_epoch": np.array(self.valid_epoch, dtype=int),
            "valid/loss": np.array(self.valid_loss),
            f"valid/{self.metric}": np.array(self.valid_metric),
        }

    def table(self) -> pd.DataFrame:
        """At most MAX_RECORDS rows: epoch (counted from 1), train/loss, train/<metric>, valid/loss, valid/<metric>.

        Row `epoch` holds what was recorded in that epoch's training, and the validation split after it.
        """
        arrays = self.arrays()
        rows = np.cumsum([len(losses) for losses in self.train_loss], dtype=int) - 1  # the last of each chunk
        return pd.DataFrame(
            {
                "epoch": arrays["valid_epoch"],
                "train/loss": arrays["train/loss"][rows],
                f"train/{self.metric}": arrays[f"train/{self.metric}"][rows],
                "valid/loss": arrays["valid/loss"],
                f"valid/{self.metric}": arrays[f"valid/{self.metric}"],
            }
        )


Arrays = dict[str, np.ndarray]


class Checkpoint(Protocol):
    """Where the state of a training is kept, from which it goes on after an interruption."""

    def load(self) -> Arrays | None:
        """What `save` wrote last, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, arrays: Arrays) -> None: ...


@dataclass
class Monitor:
    """Keeps the history, stops a training that diverges or no longer improves, and tells its listeners.

    With a checkpoint, an engine begins with `resume` and calls `keep` after each chunk that it does not stop at.
    """

    metric: str
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    listeners: tuple[Callable[[History], None], ...] = ()
    checkpoint: Checkpoint | None = None
    history: History = field(init=False)
    improved: bool = field(init=False, default=False)  # at the last chunk; only kept up with early stopping
    best_epoch: int | None = field(init=False, default=None)
    best_loss: float = field(init=False, default=float("inf"))

    def __post_init__(self) -> None:
        self.history = History(self.metric)

    def __call__(self, chunk: Chunk) -> bool:
        """Record the chunk; True where training is to stop.

        Raises DivergedError, with the history up to the last finite loss, where a loss is NaN or infinite.
        """
        finite = np.isfinite(chunk.train_loss)
        if not finite.all() or not np.isfinite(chunk.valid_loss):
            self._diverged(chunk, finite)
        self.history.append(chunk)
        for listener in self.listeners:
            listener(self.history)
        return self._stop(chunk.valid_loss)

    def resume(self) -> Arrays | None:
        """The engine's state after `history.epochs` epochs, from which it goes on; None where it starts anew."""
        kept = self.checkpoint.load() if self.checkpoint else None
        if kept is None:
            return None
        self.history = History.restore(self.metric, _under(kept, "history"))
        self.best_epoch, self.best_loss = int(kept["best_epoch"]) or None, float(kept["best_loss"])
        return _under(kept, "engine")

    def keep(self, state: Callable[[], Arrays]) -> None:
        """Save a checkpoint where one is due; `state` gives all that the engine needs to go on with the same bits."""
        if self.checkpoint is None or not self.checkpoint.due():
            return
        parts = {"history": self.history.arrays(), "engine": state()}
        arrays = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        best = {"best_epoch": np.array(self.best_epoch or 0), "best_loss": np.array(self.best_loss)}
        self.checkpoint.save(arrays | best)

    def _stop(self, valid_loss: float) -> bool:
        patience = self.early_stopping.patience
        if patience is None:
            return False
        epoch = self.history.epochs
        self.improved = valid_loss < self.best_loss - self.early_stopping.min_delta
        if self.improved:
            self.best_loss, self.best_epoch = valid_loss, epoch
        return self.best_epoch is None or epoch - self.best_epoch >= patience

    def _diverged(self, chunk: Chunk, finite: np.ndarray) -> None:
        bad = int(np.argmin(finite)) if not finite.all() else len(finite) - 1
        epoch = self.history.epochs + (chunk.epochs or bad + 1)
        earlier = np.concatenate([*self.history.train_loss, np.asarray(chunk.train_loss, dtype=float)[:bad]])
        last = f"the last finite loss was {earlier[-1]:.6g}" if len(earlier) else "no loss was finite"
        raise DivergedError(
            f"the loss is no longer a finite number at epoch {epoch}; {last}; "
            "use a smaller optimizer.learning_rate, or scale the features (data.scaling=standard)",
            self.history,
        )


def _under(arrays: Arrays, part: str) -> Arrays:
    return {name.removeprefix(f"{part}/"): value for name, value in arrays.items() if name.startswith(f"{part}/")}
