"""Choose the device of an experiment."""

from dataclasses import dataclass

from twinnet.core.engine import gpus
from twinnet.core.errors import DeviceError, one_line_text
from twinnet.core.schema import DeviceChoice, Engine


@dataclass(frozen=True)
class Device:
    """`kind` is "cpu" or "gpu"; `name` is for people: "cpu", or "gpu: " and the name of the GPU."""

    kind: str
    name: str


CPU = Device("cpu", "cpu")


def choose_device(device: DeviceChoice, engine: Engine) -> Device:
    """Return the first GPU that the engine's library finds, for `auto` or `gpu`; else the CPU.

    Raises DeviceError for `gpu` if there is none, or if the library cannot start.
    """
    if device is DeviceChoice.cpu:
        return CPU
    try:
        found = gpus(engine)
    except (RuntimeError, AssertionError) as error:  # JAX, if a variable asks for a platform that is not there
        raise DeviceError(
            f"device={device}: expected {engine.library} to start; received {one_line_text(error)}; unset JAX_PLATFORMS"
        ) from error
    if found:
        return Device("gpu", f"gpu: {found[0]}")
    if device is DeviceChoice.gpu:
        raise DeviceError(
            f"device=gpu: expected a GPU; {engine.library} finds none here; use device=auto or device=cpu"
        )
    return CPU
