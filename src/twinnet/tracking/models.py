"""The trained network of a run as a folder in MLflow's model format, with signature and input example.

Keras is not loaded for it: a `.keras` file is put where `mlflow.keras` reads it, too.
"""

import json
import shutil
import tempfile
import zipfile
from copy import deepcopy
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

import twinnet
from twinnet.training.run import Run
from twinnet.training.run_info import RunInfo

SCRATCH_CODE = ("__init__.py", "core/*.py", "engines/__init__.py", "engines/scratch/*.py")  # what predicts with NumPy
SERVED, MODEL = "served_model.py", "model"
FOLDERS: dict[str, tuple[tempfile.TemporaryDirectory[str], dict[str, Any]]] = {}  # kind of run -> model, its MLmodel


def write(run: Run, target: Path, run_id: str, model_id: str) -> None:
    """Write the model of a run to the folder `target`, which must not exist yet.

    MLflow makes one folder for all runs of a kind, 60 ms; the others are copies with their own network and ids.
    """
    info = run.info
    network = ("artifacts", run.model.name)
    kind = json.dumps([network, info.engine, columns(info), info.input_shape, info.dtype, info.example, info.versions])
    if kind not in FOLDERS:
        folder = tempfile.TemporaryDirectory()
        _save(run, Path(folder.name, MODEL))
        FOLDERS[kind] = folder, Model.load(Path(folder.name, MODEL)).to_dict()
    folder, first = FOLDERS[kind]
    shutil.copytree(Path(folder.name, MODEL), target, copy_function=shutil.copyfile)
    form, place = deepcopy(first), target.joinpath(*network)
    form["model_size_bytes"] += run.model.stat().st_size - place.stat().st_size
    shutil.copyfile(run.model, place)
    form |= {"run_id": run_id, "model_id": model_id, "model_uuid": uuid4().hex}
    form |= {"utc_time_created": str(datetime.now(UTC).replace(tzinfo=None))}
    form["flavors"]["python_function"]["artifacts"]["model"]["uri"] = run.model.resolve().as_uri()
    Model.from_dict(form).save(target / "MLmodel")


def _save(run: Run, target: Path) -> None:
    info, form = run.info, Model()
    config: dict[str, list[str] | str] = {"columns": columns(info)}
    requirements, files = [f"pandas=={version('pandas')}"], {"model": run.model}
    with tempfile.TemporaryDirectory() as folder:
        if run.model.suffix == ".keras":
            with zipfile.ZipFile(run.model) as archive:
                keras = json.loads(archive.read("metadata.json"))["keras_version"]
            backend = str(info.config["engine"]["backend"])
            config["backend"] = backend
            form.add_flavor(
                "keras", data="artifacts", keras_version=keras, keras_backend=backend, save_exported_model=False
            )
            # The installed package (tensorflow-cpu): MLflow imports a requirement whose package it does not find, 5 s.
            package = packages_distributions().get(backend, [backend])[0]
            requirements += [f"keras=={keras}", _pinned(backend, info).replace(backend, package)]
        else:
            own = (f"{name}=={version(name)}" for name in ("omegaconf", "threadpoolctl"))
            requirements += [_pinned("numpy", info), *own]
            files["code"] = _zip_code(Path(folder))  # `code_paths` would stay in the sys.path of who loads the model
        pyfunc.save_model(
            target,
            python_model=str(Path(__file__).with_name(SERVED)),
            artifacts={name: path.resolve().as_uri() for name, path in files.items()},  # MLflow decodes %20 in a path
            model_config=config,
            pip_requirements=requirements,
            mlflow_model=form,
            signature=signature(info),
            input_example=example(info),
        )


def columns(info: RunInfo) -> list[str]:
    """Return the names of what is predicted: the classes, or the target of a regression."""
    data = info.config["data"]
    return [str(data.get("target", "value"))] if data["task"] == "regression" else list(data["classes"])


def signature(info: RunInfo) -> ModelSignature:
    """Return (samples, *input shape) in the engine's dtype, and a column for each class."""
    dtype = np.dtype(info.dtype)
    return ModelSignature(
        inputs=Schema([TensorSpec(dtype, (-1, *info.input_shape))]),
        outputs=Schema([ColSpec(DataType.from_numpy_type(dtype), name) for name in columns(info)]),
    )


def example(info: RunInfo) -> np.ndarray:
    """Return one sample of the validation split; zeros if none was recorded."""
    if info.example is None:
        return np.zeros((1, *info.input_shape), info.dtype)
    return np.asarray(info.example, info.dtype)


def _zip_code(folder: Path) -> Path:
    """Write the part of this package that predicts with NumPy to `folder`, as one file: each run sends it."""
    package, file = Path(twinnet.__file__).parent, folder / "twinnet.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for path in sorted(path for part in SCRATCH_CODE for path in package.glob(part)):
            archive.write(path, path.relative_to(package.parent))
    return file


def _pinned(name: str, info: RunInfo) -> str:
    recorded = info.versions.get(name)
    return f"{name}=={recorded}" if recorded else name
