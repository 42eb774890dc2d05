"""Choose the device of an experiment, and the precision that it multiplies fast."""

from dataclasses import dataclass, replace
from pathlib import Path

from twinnet.core.engine import gpus
from twinnet.core.errors import DeviceError
from twinnet.core.schema import DeviceChoice, Dtype, Engine, KerasEngine


@dataclass(frozen=True)
class Device:
    """`kind` is "cpu" or "gpu"; `name` is for people: "cpu", or "gpu: " and the name of the GPU."""

    kind: str
    name: str


CPU = Device("cpu", "cpu")
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of an x86-64 or an Arm processor, as Linux writes them


def choose_device(device: DeviceChoice, engine: Engine) -> Device:
    """Return the first GPU that the engine's library finds, for `auto` or `gpu`; else the CPU.

    Raises DeviceError for `gpu` if there is none, or if the library cannot start.
    """
    if device is DeviceChoice.cpu:
        return CPU
    if found := gpus(engine):
        return Device("gpu", f"gpu: {found[0]}")
    if device is DeviceChoice.gpu:
        raise DeviceError(
            f"device=gpu: expected a GPU; {engine.library} finds none here; use device=auto or device=cpu"
        )
    return CPU


def choose_precision(engine: Engine, device: str) -> Engine:
    """Return the engine with mixed precision on or off: with `null` on where `device` multiplies bfloat16."""
    if not isinstance(engine, KerasEngine) or engine.mixed_precision is not None:
        return engine
    return replace(engine, mixed_precision=engine.dtype is Dtype.float32 and _multiplies_bfloat16(device))


def _multiplies_bfloat16(device: str) -> bool:
    """True for any GPU; False for a processor that Linux does not describe."""
    if device == "gpu":
        return True
    try:
        lines = CPU_INFO.read_text("utf-8").splitlines()
    except OSError:
        return False
    return any(BFLOAT16_FLAGS & set(line.split()) for line in lines if line.startswith(("flags", "Features")))
