"""Loss curves of one training: a value each epoch, and the validation split after each chunk of epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MAX_RECORDS = 1000  # rows of history.csv, evaluations of the validation split
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """Report of an engine after some epochs: one value for each epoch, and the validation split at their end."""

    train_loss: np.ndarray
    train_metric: np.ndarray
    valid_loss: float
    valid_metric: float


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
        """Return the history of which these are the `arrays()`.

        Raises KeyError, IndexError or ValueError if they are not those of one history.
        """
        ends, chunks = arrays["valid_epoch"][:-1], len(arrays["valid_epoch"])
        lengths = {f"train/{key}": int(arrays["valid_epoch"][-1]) for key in ("loss", metric)}
        lengths |= {f"valid/{key}": chunks for key in ("loss", metric)}
        for name, length in lengths.items():
            if arrays[name].shape != (length,):
                raise ValueError(f"{name}: expected {length} values; received shape {arrays[name].shape}")
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
        self.valid_epoch.append(self.epochs + len(chunk.train_loss))
        self.valid_loss.append(float(chunk.valid_loss))
        self.valid_metric.append(float(chunk.valid_metric))

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole history under the contract's names; train/… are (epochs,), valid/… and valid_epoch (chunks,)."""
        return {
            "train/loss": np.concatenate(self.train_loss or [np.empty(0)]),
            f"train/{self.metric}": np.concatenate(self.train_metric or [np.empty(0)]),
            "valid_epoch": np.array(self.valid_epoch, dtype=int),
            "valid/loss": np.array(self.valid_loss),
            f"valid/{self.metric}": np.array(self.valid_metric),
        }

    def table(self) -> "pd.DataFrame":
        """At most MAX_RECORDS rows: epoch (counted from 1), train/loss, train/<metric>, valid/loss, valid/<metric>.

        Row `epoch` holds what was recorded in that epoch's training, and the validation split after it.
        """
        import pandas as pd  # 0.3 s

        arrays = self.arrays()
        rows = arrays["valid_epoch"] - 1  # the last of each chunk
        return pd.DataFrame(
            {
                "epoch": arrays["valid_epoch"],
                "train/loss": arrays["train/loss"][rows],
                f"train/{self.metric}": arrays[f"train/{self.metric}"][rows],
                "valid/loss": arrays["valid/loss"],
                f"valid/{self.metric}": arrays[f"valid/{self.metric}"],
            }
        )
