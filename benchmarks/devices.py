"""The GPU beside the CPU of the same machine, both engines on it; the Keras engine computes with JAX.

`python -m benchmarks device_tiny device_many device_dense device_cnn device_cnn_by_hand`; left out of what is
measured where no row is named. Each peer trains on random data.
"""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.batch import configuration
from benchmarks.interleaved import Peer, Row
from benchmarks.keras_engine import engine, problem
from benchmarks.problems import pictures, players
from twinnet.core.monitor import Monitor
from twinnet.core.problem import Problem
from twinnet.core.schema import Backend, KerasEngine

QUIET = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several peers share the GPU's memory
EPOCHS, MANY, MANY_EPOCHS = 20_000, {"gpu": 4096, "cpu": 64}, 2000
IMAGES = 32_000


def _row(name: str, unit: str, peers: list[str], note: str) -> Row:
    """A row of peers such as `scratch gpu`, the first of them the project's own; each a function of this module."""
    posed = [Peer(peer, f"benchmarks.devices:{name}_{peer.replace(' ', '_')}", dict(QUIET)) for peer in peers]
    return Row(name, unit, posed, at_least={}, aim={}, rounds=3, note=note, only_named=True)


ROWS = [
    _row("device_tiny", "epoch", ["scratch gpu", "scratch cpu"], f"2-4-1 on 354 rows, float64, {EPOCHS} epochs"),
    _row(
        "device_many",
        "configuration and epoch",
        ["scratch gpu", "scratch cpu"],
        f"2-4-1 of {MANY['gpu']} configurations at once on the GPU, {MANY['cpu']} on the cores; {MANY_EPOCHS} epochs",
    ),
    _row(
        "device_dense",
        "step",
        ["scratch gpu", "scratch cpu", "keras gpu", "keras cpu"],
        "784-256x3-10, batches of 32, Adam, float32",
    ),
    _row(
        "device_cnn",
        "image",
        ["keras gpu", "keras gpu bfloat16", "keras cpu"],
        f"fashion_cnn, {IMAGES} images an epoch with validation; a quarter of them on the CPU",
    ),
    _row(
        "device_cnn_by_hand",
        "image",
        ["scratch gpu", "scratch cpu", "keras gpu", "keras cpu"],
        f"fashion_cnn_scratch, {IMAGES} images an epoch with validation; a quarter of them on the CPU",
    ),
]


def _fitted(posed: Problem, units: int) -> Callable[[], int]:
    """The whole training again and again, its program compiled by the first."""
    from twinnet.core import engine as engines

    def train() -> int:
        engines.fit(posed, Monitor(posed.metric))
        return units

    return train


def _epochs(posed: Problem, per_step: int) -> Callable[[], int]:
    """One epoch after the other of a single training of Keras."""
    epoch = engine(posed)
    return lambda: epoch() * per_step


def device_tiny_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    return _fitted(replace(players("jax", EPOCHS), device=device), EPOCHS)


def device_tiny_scratch_cpu() -> Callable[[], int]:
    return device_tiny_scratch_gpu("cpu")


def device_many_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    from twinnet.engines import scratch

    X = (one := configuration("jax", MANY_EPOCHS, 0)).X_train
    each = (configuration("jax", MANY_EPOCHS, seed) for seed in range(MANY[device]))
    problems = [replace(posed, device=device, X_train=X, y_train=one.y_train) for posed in each]

    def train() -> int:
        scratch.fit_batched(problems, [Monitor(posed.metric) for posed in problems])
        return len(problems) * MANY_EPOCHS

    return train


def device_many_scratch_cpu() -> Callable[[], int]:
    return device_many_scratch_gpu("cpu")


def device_dense_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    posed = replace(pictures(500, 2), device=device)
    return _fitted(posed, posed.epochs * posed.steps_per_epoch)


def device_dense_scratch_cpu() -> Callable[[], int]:
    return device_dense_scratch_gpu("cpu")


def device_dense_keras_gpu(device: str = "gpu") -> Callable[[], int]:
    return _epochs(replace(pictures(500, 1000), engine=KerasEngine(backend=Backend.jax), device=device), 1)


def device_dense_keras_cpu() -> Callable[[], int]:
    return device_dense_keras_gpu("cpu")


def _images(experiment: str, keras: KerasEngine | None, device: str) -> Problem:
    posed = problem(experiment, IMAGES if device == "gpu" else IMAGES // 4)
    return replace(posed, device=device, batch_size=125, engine=keras or posed.engine)


def device_cnn_keras_gpu(device: str = "gpu", mixed_precision: bool = False) -> Callable[[], int]:
    keras = KerasEngine(backend=Backend.jax, mixed_precision=mixed_precision)
    return _epochs(_images("fashion_cnn", keras, device), 125)


def device_cnn_keras_gpu_bfloat16() -> Callable[[], int]:
    return device_cnn_keras_gpu(mixed_precision=True)


def device_cnn_keras_cpu() -> Callable[[], int]:
    return device_cnn_keras_gpu("cpu")


def device_cnn_by_hand_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    posed = replace(_images("fashion_cnn_scratch", None, device), epochs=1)
    return _fitted(posed, len(posed.X_train))


def device_cnn_by_hand_scratch_cpu() -> Callable[[], int]:
    return device_cnn_by_hand_scratch_gpu("cpu")


def device_cnn_by_hand_keras_gpu(device: str = "gpu") -> Callable[[], int]:
    return _epochs(_images("fashion_cnn_scratch", KerasEngine(backend=Backend.jax), device), 125)


def device_cnn_by_hand_keras_cpu() -> Callable[[], int]:
    return device_cnn_by_hand_keras_gpu("cpu")
