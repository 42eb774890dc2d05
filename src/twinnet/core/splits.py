"""Splits of a data set: arrays for training, validation and test."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Splits:
    """Arrays of each split, read and scaled as the experiment's `data` says.

    X is (samples, features) or (samples, height, width, channels) in the engine's dtype; y is (samples,), int64
    for classes, the engine's dtype for regression. `source` is upstream, mirror, snapshot or synthetic; `digest`
    is the SHA-256 of the processed file. The features were scaled as (X - mean) / scale.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_valid: np.ndarray
    y_valid: np.ndarray
    X_test: np.ndarray | None
    y_test: np.ndarray | None
    source: str
    digest: str
    mean: np.ndarray
    scale: np.ndarray

    @property
    def evaluation(self) -> tuple[str, np.ndarray, np.ndarray]:
        """Name, X and y of the split that comparisons use: test if there is one, else valid."""
        if self.X_test is not None and self.y_test is not None:
            return "test", self.X_test, self.y_test
        return "valid", self.X_valid, self.y_valid
