"""Devices: what `auto`, `cpu` and `gpu` come to, with a list of devices that is made up."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinnet.core.engine import gpus
from twinnet.core.errors import DeviceError
from twinnet.core.schema import ArrayLibrary, Backend, DeviceChoice, Dtype, Engine, KerasEngine, ScratchEngine
from twinnet.engines.keras import backend
from twinnet.engines.scratch import jax_trainer
from twinnet.training import device as devices
from twinnet.training.device import Device, choose_device, choose_precision

NUMPY = ScratchEngine(array=ArrayLibrary.numpy)
JAX = ScratchEngine(array=ArrayLibrary.jax)
TENSORFLOW = KerasEngine(backend=Backend.tensorflow)
KERAS_JAX = KerasEngine(backend=Backend.jax)


@pytest.fixture
def an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries see a GPU, whichever is asked."""
    described = SimpleNamespace(name="/physical_device:GPU:0")
    tensorflow = SimpleNamespace(
        config=SimpleNamespace(
            list_physical_devices=lambda kind: [described] if kind == "GPU" else [],
            experimental=SimpleNamespace(get_device_details=lambda gpu: {"device_name": "NVIDIA H100"}),
        )
    )
    seen = [
        SimpleNamespace(platform="gpu", device_kind="NVIDIA H100"),
        SimpleNamespace(platform="cpu", device_kind="cpu"),
    ]
    libraries = {"tensorflow": tensorflow, "jax": SimpleNamespace(devices=lambda: seen)}
    monkeypatch.setattr(backend, "import_module", libraries.__getitem__)
    monkeypatch.setattr(jax_trainer, "jax", libraries["jax"])
    monkeypatch.setattr(backend, "load", lambda engine: None)


@pytest.mark.usefixtures("an_h100")
@pytest.mark.parametrize("engine", [JAX, TENSORFLOW, KERAS_JAX])
@pytest.mark.parametrize("device", [DeviceChoice.auto, DeviceChoice.gpu])
def test_a_gpu_is_used_and_named(device: DeviceChoice, engine: Engine) -> None:
    assert choose_device(device, engine) == Device("gpu", "gpu: NVIDIA H100")


@pytest.mark.usefixtures("an_h100")
@pytest.mark.parametrize("engine", [NUMPY, JAX, TENSORFLOW, KERAS_JAX])
def test_the_cpu_is_used_where_it_is_asked_for(engine: Engine) -> None:
    assert choose_device(DeviceChoice.cpu, engine) == Device("cpu", "cpu")


@pytest.mark.usefixtures("an_h100")
def test_numpy_has_the_cpu_alone() -> None:
    assert choose_device(DeviceChoice.auto, NUMPY).kind == "cpu"
    with pytest.raises(DeviceError, match="device=gpu: expected a GPU; numpy finds none"):
        choose_device(DeviceChoice.gpu, NUMPY)


@pytest.mark.parametrize(
    "engine",
    [JAX, pytest.param(TENSORFLOW, marks=pytest.mark.xdist_group("keras"))],  # one worker loads TensorFlow
)
def test_a_gpu_that_is_not_there_is_an_error_that_says_so(engine: Engine) -> None:
    if gpus(engine):
        pytest.skip("there is a GPU here")
    assert choose_device(DeviceChoice.auto, engine) == Device("cpu", "cpu")
    with pytest.raises(DeviceError, match=rf"device=gpu: expected a GPU; {engine.library} finds none"):
        choose_device(DeviceChoice.gpu, engine)


def test_no_library_is_loaded_that_is_not_asked() -> None:
    program = (
        "import sys; from twinnet.training.device import choose_device; from twinnet.core.schema import *;"
        "choose_device(DeviceChoice.auto, ScratchEngine(array=ArrayLibrary.numpy));"
        "choose_device(DeviceChoice.cpu, KerasEngine());"
        "print({'tensorflow', 'jax', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_platform_that_jax_does_not_find_is_a_device_error() -> None:
    """On the CPU, too, for which no device is looked for before the training."""
    program = (
        "from tests.problems import *; from twinnet.core.errors import DeviceError\n"
        "keras = keras_problem(dtype='float32', engine=KerasEngine(backend=Backend.jax))\n"
        "for problem in (scratch_problem(array='jax'), keras):\n"
        "    try: fit(problem, Monitor('accuracy'))\n"
        "    except DeviceError as error: print(error)"
    )
    environment = os.environ | {"JAX_PLATFORMS": "abacus"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("JAX_PLATFORMS=abacus: expected a platform that JAX finds here") for line in lines)


@pytest.mark.parametrize(
    ("line", "faster"),
    [
        ("flags\t\t: fpu sse2 avx512f avx512_bf16 avx512_vnni", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu sse2 avx2 avx512f", False),
        ("model name\t: one with avx512_bf16 in its name", False),
    ],
)
def test_null_follows_the_bfloat16_of_the_processor(
    line: str, faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    chosen = choose_precision(KerasEngine(mixed_precision=None), "cpu")
    assert chosen == KerasEngine(mixed_precision=faster)
    assert choose_precision(KerasEngine(mixed_precision=None, dtype=Dtype.float64), "cpu").mixed_precision is False
    for said in (True, False):
        assert choose_precision(KerasEngine(mixed_precision=said), "cpu").mixed_precision is said
    assert choose_precision(JAX, "cpu") is JAX


def test_a_processor_that_nothing_describes_keeps_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    assert choose_precision(KerasEngine(mixed_precision=None), "cpu").mixed_precision is False
    assert choose_precision(KerasEngine(mixed_precision=None), "gpu").mixed_precision is True
