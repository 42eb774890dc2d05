"""Which device an experiment computes on: asked for, or found."""

import os
from dataclasses import dataclass
from importlib import import_module

from twinnet.core.errors import DeviceError
from twinnet.core.schema import ArrayLibrary, DeviceChoice, Engine, KerasEngine, ScratchEngine


@dataclass(frozen=True)
class Device:
    """`kind` is "cpu" or "gpu"; `name` is for people: "cpu", or "gpu: " and what the GPU is called."""

    kind: str
    name: str


CPU = Device("cpu", "cpu")


def choose_device(device: DeviceChoice, engine: Engine) -> Device:
    """The device that `engine` is to use: the GPU that its library sees first, where `auto` finds or `gpu` wants one.

    Raises DeviceError for `gpu` where there is none.
    """
    if device is DeviceChoice.cpu:
        return CPU
    found = gpus(engine)
    if found:
        return Device("gpu", f"gpu: {found[0]}")
    if device is DeviceChoice.gpu:
        raise DeviceError(
            f"device=gpu: expected a GPU; {library(engine)} finds none here; use device=auto or device=cpu"
        )
    return CPU


def library(engine: Engine) -> str:
    """What the engine computes with: numpy, jax or tensorflow."""
    if isinstance(engine, KerasEngine):
        return engine.backend.value
    assert isinstance(engine, ScratchEngine)
    return engine.array.value


def gpus(engine: Engine) -> list[str]:
    """Names of the GPUs that the engine's library sees; NumPy sees none."""
    if isinstance(engine, KerasEngine):
        from twinnet.engines.keras import backend

        return backend.gpus(engine)
    if library(engine) == ArrayLibrary.numpy.value:
        return []
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX takes GPU memory as it needs it
    return [device.device_kind for device in import_module("jax").devices() if device.platform == "gpu"]
