"""A trained network as an MLflow model whose answer names the classes; the folder of a scratch one holds its engine.

MLflow runs this file when the model is loaded ("models from code"); a Keras model has no code of this project.
"""

import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class ServedModel(PythonModel):
    """Predicts the probability of each class, or the value of a regression, from (samples, *input shape)."""

    def load_context(self, context: Any) -> None:
        self.path, self.config = Path(context.artifacts["model"]), context.model_config

    @cached_property
    def activations(self) -> Callable[[np.ndarray], np.ndarray]:
        """Load the network for the first prediction: MLflow also loads the context to log the model."""
        if self.path.suffix != ".keras":
            code = self.path.with_name("twinnet.zip")  # the engine beside the network, unless `twinnet` is imported
            sys.path.insert(0, str(code))
            try:
                from twinnet.engines.scratch.model import load  # not in the folder of a Keras model
            finally:
                del sys.path[0]
            return load(self.path).predict
        for name, value in {"KERAS_BACKEND": self.config["backend"], "TF_CPP_MIN_LOG_LEVEL": "3"}.items():
            os.environ.setdefault(name, value)
        stderr = os.dup(2)
        with Path(os.devnull).open("w", encoding="utf-8") as null:
            os.dup2(null.fileno(), 2)  # TensorFlow's first notes from C++ heed no level
        try:
            import keras  # 5 s
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        network = keras.saving.load_model(self.path, compile=False)
        return lambda X: network.predict(X, verbose=0)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        values = np.asarray(self.activations(np.asarray(model_input)))
        if values.shape[1] < len(self.config["columns"]):  # one unit: the probability of class 1
            values = np.hstack([1 - values, values])
        return pd.DataFrame(values, columns=self.config["columns"])


set_model(ServedModel())
