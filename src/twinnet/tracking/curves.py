"""Metrics in the tracking store: points of a curve, about as many as MLflow's charts draw, and final scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from twinnet.core.history import History

if TYPE_CHECKING:
    import pandas as pd

STEPS = 320  # of a curve, about
FINAL = "final/"  # before a final score that has a curve: `valid/loss` is that of an epoch


def thin_history(history: History, start: int, epochs: int) -> list[dict[str, float]]:
    """Return the steps among the chunks from `start` on, as `thin_table` does, of a training of `epochs` epochs."""
    metric, ends = history.metric, history.valid_epoch
    return [
        {
            "epoch": ends[i],
            "train/loss": float(history.train_loss[i][-1]),
            f"train/{metric}": float(history.train_metric[i][-1]),
            "valid/loss": history.valid_loss[i],
            f"valid/{metric}": history.valid_metric[i],
        }
        for i in range(start, len(ends))
        if _is_step(ends[i], ends[i - 1] if i else 0, epochs)
    ]


def thin_table(curves: "pd.DataFrame", epochs: int) -> list[dict[str, float]]:
    """Return the rows of history.csv that are steps of a curve, and the last one; `epoch` is an int."""
    rows, before = curves.to_dict("records"), [0, *curves["epoch"]]
    steps = []
    for i, row in enumerate(rows):
        if i == len(rows) - 1 or _is_step(row["epoch"], before[i], epochs):
            values = {str(key): float(value) for key, value in row.items() if np.isfinite(value)}
            steps.append(values | {"epoch": int(row["epoch"])})
    return steps


def final_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the final scores of a run in the store under their flat keys, as in metrics.json."""
    final = {key.removeprefix(FINAL): value for key, value in metrics.items() if key.startswith(FINAL)}
    return {key: value for key, value in metrics.items() if not key.startswith((FINAL, "system/"))} | final


def _is_step(epoch: int, before: int, epochs: int) -> bool:
    """Return whether an epoch, whose row follows that of `before`, is the first, the last or the next of STEPS."""
    stride = -(-epochs // STEPS)
    return not before or epoch >= epochs or epoch // stride > before // stride
