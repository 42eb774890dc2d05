"""A network of the scratch engine as an MLflow model, whose folder holds the engine's code (`code_paths`).

MLflow runs this file when the model is loaded ("models from code").
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from twinnet.engines.scratch.model import load


class ScratchModel(PythonModel):
    """Predicts (samples, units) from (samples, *input shape)."""

    def load_context(self, context: Any) -> None:
        self.network = load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        return self.network.predict(np.asarray(model_input))


set_model(ScratchModel())
