"""What an engine reports to: it records, stops a training, and saves checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from twinnet.core.errors import DivergedError
from twinnet.core.history import Arrays, Chunk, History
from twinnet.core.schema import EarlyStopping


class CheckpointStore(Protocol):
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
    checkpoint: CheckpointStore | None = None
    history: History = field(init=False)
    improved: bool = field(init=False, default=False)  # at the last chunk; only kept up with early stopping
    best_epoch: int | None = field(init=False, default=None)
    best_loss: float = field(init=False, default=float("inf"))
    is_resuming: bool = field(init=False, default=False)  # from a checkpoint, until the first chunk after it

    def __post_init__(self) -> None:
        self.history = History(self.metric)

    def __call__(self, chunk: Chunk) -> bool:
        """Record the chunk; True where training is to stop.

        Raises DivergedError, with the history up to the last finite loss, where a loss is NaN or infinite.
        """
        self.is_resuming = False
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
        self.is_resuming = True
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
        epoch = self.history.epochs + bad + 1
        earlier = np.concatenate([*self.history.train_loss, np.asarray(chunk.train_loss, dtype=float)[:bad]])
        last = f"the last finite loss was {earlier[-1]:.6g}" if len(earlier) else "no loss was finite"
        raise DivergedError(
            f"the loss is no longer a finite number at epoch {epoch}; {last}; "
            "use a smaller optimizer.learning_rate, or scale the features (data.scaling=standard)",
            self.history,
        )


def _under(arrays: Arrays, part: str) -> Arrays:
    return {name.removeprefix(f"{part}/"): value for name, value in arrays.items() if name.startswith(f"{part}/")}
