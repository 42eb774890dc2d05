"""The monitor of a training: it records the history, stops the training and saves checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from twinnet.core.errors import DivergedError
from twinnet.core.history import Arrays, Chunk, History
from twinnet.core.schema import EarlyStopping


class CheckpointStore(Protocol):
    """Storage for the state of a training, from which it resumes after an interruption."""

    def load(self) -> Arrays | None:
        """Return the arrays that `save` wrote last, or None."""
        ...

    def due(self) -> bool:
        """Return whether it is time to save."""
        ...

    def save(self, arrays: Arrays) -> None: ...


@dataclass
class Monitor:
    """Records the history, stops a training that diverges or no longer improves, and calls its listeners.

    With a checkpoint, an engine begins with `resume` and calls `save_if_due` after each chunk that does not stop it.
    """

    metric: str
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    listeners: tuple[Callable[[History], None], ...] = ()
    checkpoint: CheckpointStore | None = None
    history: History = field(init=False)
    improved: bool = field(init=False, default=False)  # at the last chunk; only set with early stopping
    best_epoch: int | None = field(init=False, default=None)
    best_loss: float = field(init=False, default=float("inf"))
    is_resuming: bool = field(init=False, default=False)  # from a checkpoint, until the first chunk after it

    def __post_init__(self) -> None:
        self.history = History(self.metric)

    def __call__(self, chunk: Chunk) -> bool:
        """Record the chunk; return True to stop the training.

        Raises DivergedError, with the history up to the last finite loss, if a loss is NaN or infinite.
        """
        self.is_resuming = False
        finite = np.isfinite(chunk.train_loss)
        if not finite.all() or not np.isfinite(chunk.valid_loss):
            self._raise_diverged(chunk, finite)
        self.history.append(chunk)
        for listener in self.listeners:
            listener(self.history)
        return self._stop(chunk.valid_loss)

    def resume(self) -> Arrays | None:
        """Return the engine's state after `history.epochs` epochs, or None if it starts from the beginning."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return None
        self.is_resuming = True
        self.history = History.restore(self.metric, _with_prefix(saved, "history"))
        self.best_epoch, self.best_loss = int(saved["best_epoch"]) or None, float(saved["best_loss"])
        return _with_prefix(saved, "engine")

    def save_if_due(self, state: Callable[[], Arrays]) -> None:
        """Save a checkpoint if one is due; `state` returns all that the engine needs to resume with the same bits."""
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

    def _raise_diverged(self, chunk: Chunk, finite: np.ndarray) -> None:
        bad = int(np.argmin(finite)) if not finite.all() else len(finite) - 1
        epoch = self.history.epochs + bad + 1
        earlier = np.concatenate([*self.history.train_loss, np.asarray(chunk.train_loss, dtype=float)[:bad]])
        last = f"the last finite loss was {earlier[-1]:.6g}" if len(earlier) else "no loss was finite"
        raise DivergedError(
            f"the loss is no longer a finite number at epoch {epoch}; {last}; "
            "use a smaller optimizer.learning_rate, or scale the features (data.scaling=standard)",
            self.history,
        )


def _with_prefix(arrays: Arrays, part: str) -> Arrays:
    return {name.removeprefix(f"{part}/"): value for name, value in arrays.items() if name.startswith(f"{part}/")}
