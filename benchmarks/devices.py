"""The GPU beside the CPU of the same machine, both engines on it; the Keras engine computes with JAX.

`python -m benchmarks device_tiny device_many device_dense device_cnn device_cnn_by_hand`; measured only if named. Each
peer trains on random data.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.batch import configuration
from benchmarks.interleaved import Peer, Row
from benchmarks.keras_engine import build_image_problem, engine
from benchmarks.problems import batched_training, pictures, players, training
from twinnet.core.problem import Problem
from twinnet.core.schema import Backend, KerasEngine

QUIET = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several peers share the GPU's memory
EPOCHS, MANY, MANY_EPOCHS = 20_000, {"gpu": 4096, "cpu": 64}, 2000
IMAGES = 32_000


def _row(name: str, unit: str, peers: list[str], note: str) -> Row:
    """A row of peers such as `scratch gpu`, the first of them the project's own; each a function of this module."""
    measured = [Peer(peer, f"benchmarks.devices:{name}_{peer.replace(' ', '_')}", dict(QUIET)) for peer in peers]
    return Row(name, unit, measured, at_least={}, aim={}, rounds=3, note=note, only_named=True)


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


def _epochs(problem: Problem, per_step: int) -> Callable[[], int]:
    """One epoch after the other of a single training of Keras."""
    epoch = engine(problem)
    return lambda: epoch() * per_step


def device_tiny_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    return training(replace(players("jax", EPOCHS), device=device), EPOCHS)


device_tiny_scratch_cpu = partial(device_tiny_scratch_gpu, "cpu")


def device_many_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    X = (one := configuration("jax", MANY_EPOCHS, 0)).X_train
    each = (configuration("jax", MANY_EPOCHS, seed) for seed in range(MANY[device]))
    problems = [replace(problem, device=device, X_train=X, y_train=one.y_train) for problem in each]
    return batched_training(problems, len(problems) * MANY_EPOCHS)


device_many_scratch_cpu = partial(device_many_scratch_gpu, "cpu")


def device_dense_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    problem = replace(pictures(500, 2), device=device)
    return training(problem, problem.epochs * problem.steps_per_epoch)


device_dense_scratch_cpu = partial(device_dense_scratch_gpu, "cpu")


def device_dense_keras_gpu(device: str = "gpu") -> Callable[[], int]:
    return _epochs(replace(pictures(500, 1000), engine=KerasEngine(backend=Backend.jax), device=device), 1)


device_dense_keras_cpu = partial(device_dense_keras_gpu, "cpu")


def _images(experiment: str, keras: KerasEngine | None, device: str) -> Problem:
    problem = build_image_problem(experiment, IMAGES if device == "gpu" else IMAGES // 4)
    return replace(problem, device=device, batch_size=125, engine=keras or problem.engine)


def device_cnn_keras_gpu(device: str = "gpu", mixed_precision: bool = False) -> Callable[[], int]:
    keras = KerasEngine(backend=Backend.jax, mixed_precision=mixed_precision)
    return _epochs(_images("fashion_cnn", keras, device), 125)


device_cnn_keras_gpu_bfloat16 = partial(device_cnn_keras_gpu, mixed_precision=True)
device_cnn_keras_cpu = partial(device_cnn_keras_gpu, "cpu")


def device_cnn_by_hand_scratch_gpu(device: str = "gpu") -> Callable[[], int]:
    problem = replace(_images("fashion_cnn_scratch", None, device), epochs=1)
    return training(problem, len(problem.X_train))


device_cnn_by_hand_scratch_cpu = partial(device_cnn_by_hand_scratch_gpu, "cpu")


def device_cnn_by_hand_keras_gpu(device: str = "gpu") -> Callable[[], int]:
    return _epochs(_images("fashion_cnn_scratch", KerasEngine(backend=Backend.jax), device), 125)


device_cnn_by_hand_keras_cpu = partial(device_cnn_by_hand_keras_gpu, "cpu")
