"""The library that Keras computes with: chosen once in a process, before Keras is imported."""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module

from twinnet.core.errors import ConfigError, platform_errors
from twinnet.core.schema import Backend, KerasEngine

log = logging.getLogger(__name__)

NOTE = re.compile(r"WARNING: All log messages before absl|[IW]\d{4} ")
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ notes about CPU instructions and missing GPUs
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX takes GPU memory as it needs it
}

# What Keras and TensorFlow import if they can (1.7 s) and use in nothing that is done here.
UNNEEDED = {Backend.tensorflow: ("jax", "matplotlib", "scipy", "sklearn"), Backend.jax: ("matplotlib", "sklearn")}


def loaded() -> Backend | None:
    """Return the backend of Keras in this process, or None if Keras is not imported yet."""
    if "keras" not in sys.modules:
        return None
    return Backend(sys.modules["keras"].backend.backend())


def load(engine: KerasEngine) -> None:
    """Import Keras with the engine's backend and set the number of its threads.

    Raises ConfigError if Keras is already imported with another backend, DeviceError if JAX does not start.
    """
    present = loaded()
    if present is not None and present is not engine.backend:
        raise ConfigError(
            f"engine.backend={engine.backend.value}: expected {present.value}, which Keras already uses in this "
            "process; run it in a process of its own (hydra/launcher=joblib does in a sweep)"
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if present is None:
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # it reports devices not found
        backend = engine.backend.value
        with _environment("KERAS_BACKEND", backend), _hidden(UNNEEDED[engine.backend]), suppress_native_logs():
            keras = import_module("keras")
        keras.config.set_floatx("float32")  # whatever ~/.keras/keras.json says
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        _enable_memory_growth(engine.backend)
    if engine.backend is Backend.jax:
        with platform_errors():
            import_module("jax").devices()
    if engine.threads is not None:
        _set_threads(engine)


def gpus(engine: KerasEngine) -> list[str]:
    """Return the names of the GPUs that the engine's backend sees."""
    load(engine)
    if engine.backend is Backend.jax:
        jax = import_module("jax")
        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    tf = import_module("tensorflow")
    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def scope(device: str) -> AbstractContextManager[None]:
    """A context in which Keras computes on `device`, "cpu" or "gpu"."""
    return import_module("keras").device(f"{device}:0")


def _enable_memory_growth(backend: Backend) -> None:
    if backend is Backend.tensorflow:
        tf = import_module("tensorflow")
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _set_threads(engine: KerasEngine) -> None:
    """TensorFlow takes the number of its threads only before its first computation in a process."""
    if engine.backend is not Backend.tensorflow:
        log.warning("engine.threads=%d: JAX chooses its threads; ignored", engine.threads)
        return
    threading = import_module("tensorflow").config.threading
    if threading.get_intra_op_parallelism_threads() == engine.threads:
        return
    try:
        threading.set_intra_op_parallelism_threads(engine.threads)
        threading.set_inter_op_parallelism_threads(engine.threads)
    except RuntimeError:
        log.warning("engine.threads=%d: TensorFlow already computes in this process; ignored", engine.threads)


@contextmanager
def _hidden(modules: Sequence[str]) -> Iterator[None]:
    """Let the imports of modules that are not loaded yet fail, as if they were not installed."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def suppress_native_logs() -> Iterator[None]:
    """Drop the notes of C++ libraries on stderr during their import, before TF_CPP_MIN_LOG_LEVEL takes effect."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            sys.stderr.writelines(line for line in written if not NOTE.match(line))
