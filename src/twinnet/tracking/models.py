"""The trained network of a run as a folder in MLflow's model format, with signature and input example.

Keras is not loaded for it: a `.keras` file is put where `mlflow.keras` reads it.
"""

import json
import shutil
import tempfile
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

import twinnet
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

SCRATCH_CODE = ("core", "engines/scratch")  # what predicts with NumPy


def write(run: Run, target: Path, run_id: str, model_id: str) -> None:
    """Write the model of a run to the folder `target`, which must not exist yet."""
    info, form = run.info, Model(run_id=run_id, model_id=model_id)
    common = {"mlflow_model": form, "signature": signature(info), "input_example": example(info)}
    if run.model.suffix == ".keras":
        _write_keras(run.model, target, info, form, common)
    else:
        _write_scratch(run.model, target, info, common)


def signature(info: RunInfo) -> ModelSignature:
    """Return (samples, *input shape) to (samples, units), in the engine's dtype."""
    dtype = np.dtype(info.dtype)
    return ModelSignature(
        inputs=Schema([TensorSpec(dtype, (-1, *info.input_shape))]),
        outputs=Schema([TensorSpec(dtype, (-1, info.units))]),
    )


def example(info: RunInfo) -> np.ndarray:
    """Return one sample of the validation split; zeros if none was recorded."""
    if info.example is None:
        return np.zeros((1, *info.input_shape), info.dtype)
    return np.asarray(info.example, info.dtype)


def _write_keras(path: Path, target: Path, info: RunInfo, form: Model, common: dict[str, Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        keras = json.loads(archive.read("metadata.json"))["keras_version"]
    backend = str(info.config["engine"]["backend"])
    form.add_flavor("keras", data="data", keras_version=keras, keras_backend=backend, save_exported_model=False)
    # The installed package (tensorflow-cpu): MLflow imports a requirement whose package it does not find, 5 s.
    package = packages_distributions().get(backend, [backend])[0]
    requirements = [f"keras=={keras}", _pinned(backend, info).replace(backend, package)]
    pyfunc.save_model(target, loader_module="mlflow.keras", pip_requirements=requirements, **common)
    (target / "data").mkdir()
    (target / "data" / "keras_module.txt").write_text("keras", "utf-8")
    shutil.copyfile(path, target / "data" / "model.keras")


def _write_scratch(path: Path, target: Path, info: RunInfo, common: dict[str, Any]) -> None:
    package = Path(twinnet.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / package.name
        for part in SCRATCH_CODE:
            shutil.copytree(package / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("__init__.py", "engines/__init__.py"):
            shutil.copyfile(package / name, code / name)
        pyfunc.save_model(
            target,
            python_model=str(package / "tracking" / "scratch_model.py"),
            code_paths=[str(code)],
            artifacts={"model": path.resolve().as_uri()},  # MLflow decodes %20 in a path
            pip_requirements=[
                _pinned("numpy", info),
                *(f"{name}=={version(name)}" for name in ("omegaconf", "pandas")),
            ],
            **common,
        )


def _pinned(name: str, info: RunInfo) -> str:
    recorded = info.versions.get(name)
    return f"{name}=={recorded}" if recorded else name
