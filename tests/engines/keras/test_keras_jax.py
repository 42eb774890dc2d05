"""The Keras engine on its JAX backend, in a process of its own: Keras has one backend for life."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.problems import keras_problem, train_arrays
from twinnet.core.schema import Activation, Augmentation, Backend, EarlyStopping, KerasEngine, ScratchEngine
from twinnet.core.schema import ArrayLibrary, Nesterov, Task
from twinnet.engines import keras as engine
from twinnet.core.monitor import Monitor
from twinnet.core.network import Activate, Add, BatchNorm, Conv2D, Dense, Dropout, Flatten, Fork
from twinnet.core.network import GlobalAveragePool2D, MaxPool2D

engine_on_jax = KerasEngine(backend=Backend.jax)
problem = keras_problem(dtype="float32", engine=engine_on_jax, epochs=25, l2=0.001)
fitted, history = train_arrays(problem)
expected = train_arrays(replace(problem, engine=ScratchEngine(array=ArrayLibrary.numpy)))[1]
for name, values in expected.items():
    np.testing.assert_allclose(history[name], values, rtol=0, atol=1e-5, err_msg=name)
again = engine.load(fitted.save(Path(sys.argv[1])))
np.testing.assert_array_equal(again.predict(problem.X_valid), fitted.predict(problem.X_valid))

full = keras_problem(dtype="float32", engine=engine_on_jax, epochs=2100, batch_size=50)
assert len(train_arrays(full)[1]["train/loss"]) == 2100

hidden = (Conv2D(3, 3, 1, Activation.relu), BatchNorm(), MaxPool2D(), Flatten())
images = keras_problem(
    hidden, input_shape=(6, 6, 1), task=Task.multiclass, dtype="float32", engine=engine_on_jax, epochs=30,
    augmentation=Augmentation(flip=True, shift=1),
)
monitor = Monitor(images.metric, EarlyStopping(patience=3))
fitted, history = train_arrays(images, monitor)
assert history["train/loss"][-1] < history["train/loss"][0]

# All that the experiments for a GPU ask for, in few numbers; interrupted, it goes on with the same bits.
class MemoryStore:
    arrays = None
    def load(self):
        return self.arrays
    def due(self):
        return self.arrays is None
    def save(self, arrays):
        self.arrays = arrays

block = (BatchNorm(), Activate(Activation.relu), Fork(), Conv2D(4, 3, 2, Activation.identity), Dropout(0.1))
residual = (Conv2D(3, 3, 1, Activation.identity), *block, Conv2D(4, 3, 1, Activation.identity), Add(3, 2))
gpu = keras_problem(
    (*residual, GlobalAveragePool2D()), input_shape=(6, 6, 1), task=Task.multiclass, dtype="float32", epochs=3,
    engine=KerasEngine(backend=Backend.jax, mixed_precision=True), ema=0.9, label_smoothing=0.1,
    augmentation=Augmentation(flip=True, shift=2, erase=0.5, mixup=0.2, cutmix=1.0),
    optimizer=Nesterov(learning_rate=0.01),
)
store = MemoryStore()
whole, expected = train_arrays(gpu, Monitor(gpu.metric, checkpoint=store))
resumed, history = train_arrays(gpu, Monitor(gpu.metric, checkpoint=store))
for name, values in expected.items():
    np.testing.assert_array_equal(history[name], values, err_msg=name)
np.testing.assert_array_equal(resumed.predict(gpu.X_valid), whole.predict(gpu.X_valid))
print("agreed")
"""


def test_keras_on_jax_is_the_reference_too(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # most of the time is compilation
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert done.stdout == "agreed\n", done.stderr
