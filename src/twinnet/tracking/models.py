"""The trained network of a run as a folder in MLflow's model format, with signature and input example.

Neither Keras nor the engines are loaded for it: a `.keras` file is put where `mlflow.keras` reads it.
"""

import json
import shutil
import zipfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from twinnet.core.errors import DataError
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo


def write(record: Run, target: Path, run_id: str, model_id: str) -> None:
    """Write the model of `record` to the folder `target`, which must not exist yet."""
    facts, path = record.info, record.model
    assert path is not None
    form = Model(run_id=run_id, model_id=model_id)
    common = {"mlflow_model": form, "signature": signature(facts), "input_example": example(facts)}
    if path.suffix == ".keras":
        _write_keras(path, target, facts, form, common)
    elif path.suffix == ".npz":
        _write_numpy(path, target, facts, common)
    else:
        raise DataError(f"expected model.keras or model.npz; received {path}")


def signature(facts: RunInfo) -> ModelSignature:
    """(samples, *input shape) to (samples, units), in the engine's dtype."""
    dtype = np.dtype(facts.dtype)
    return ModelSignature(
        inputs=Schema([TensorSpec(dtype, (-1, *facts.input_shape))]),
        outputs=Schema([TensorSpec(dtype, (-1, facts.units))]),
    )


def example(facts: RunInfo) -> np.ndarray:
    """One sample of the validation split; zeros where none was recorded."""
    if facts.example is None:
        return np.zeros((1, *facts.input_shape), facts.dtype)
    return np.asarray(facts.example, facts.dtype)


def _write_keras(path: Path, target: Path, facts: RunInfo, form: Model, common: dict[str, Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        version = json.loads(archive.read("metadata.json"))["keras_version"]
    backend = str(facts.config["engine"]["backend"])
    form.add_flavor("keras", data="data", keras_version=version, keras_backend=backend, save_exported_model=False)
    requirements = [f"keras=={version}", _pinned(backend, facts)]
    pyfunc.save_model(target, loader_module="mlflow.keras", pip_requirements=requirements, **common)
    (target / "data").mkdir()
    (target / "data" / "keras_module.txt").write_text("keras")
    shutil.copyfile(path, target / "data" / "model.keras")


def _write_numpy(path: Path, target: Path, facts: RunInfo, common: dict[str, Any]) -> None:
    with as_file(files("twinnet.tracking") / "numpy_model.py") as source:
        pyfunc.save_model(
            target,
            python_model=str(source),
            artifacts={"model": str(path)},
            pip_requirements=[_pinned("numpy", facts)],
            **common,
        )


def _pinned(name: str, facts: RunInfo) -> str:
    version = facts.versions.get(name)
    return f"{name}=={version}" if version else name
