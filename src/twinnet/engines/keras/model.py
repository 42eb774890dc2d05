"""A trained Keras model as a TrainedNetwork."""

import os
from pathlib import Path

import keras
import numpy as np

from twinnet.core.network import Weights
from twinnet.engines.keras import backend, build

ROWS = 1024  # of one call: bounds the memory that the activations of a convolution take


class KerasNetwork:
    """Predicts with `network`, a functional model that `build.build_model` made or a file held."""

    def __init__(self, network: keras.Model, device: str = "cpu") -> None:
        self.network, self.device = network, device
        self.network.jit_compile = False  # compiling for one pass over the data costs more than it saves

    @classmethod
    def load(cls, path: Path) -> "KerasNetwork":
        """Read a model without running code of the file. A damaged file raises any error."""
        with backend.suppress_native_logs():
            return cls(keras.saving.load_model(path, compile=False))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Activations of the output layer, (samples, units)."""
        with backend.scope(self.device):
            parts = [self.network.predict_on_batch(X[start : start + ROWS]) for start in range(0, len(X), ROWS)]
        return np.concatenate(parts)

    def weights(self) -> Weights:
        return build.get_weights(self.network)

    def save(self, directory: Path) -> Path:
        """Write model.keras, whole or not at all."""
        path, partial = directory / "model.keras", directory / ".model.part.keras"
        try:
            with backend.suppress_native_logs():  # Keras looks for TensorFlow there, on any backend
                self.network.save(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return path
