"""The Keras engine on its JAX backend, in a process of its own: Keras has one backend for life."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.problems import keras_problem
from twinnet.core.network import Flatten
from twinnet.core.schema import Augmentation, KerasEngine
from twinnet.engines.keras import backend

pytestmark = pytest.mark.xdist_group("keras")  # one worker loads TensorFlow

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

# Several steps in one call, as on a GPU: epochs of three batches and a smaller one.
one, many = (
    train_arrays(replace(images, epochs=3, engine=replace(engine_on_jax, steps_per_execution=steps), batch_size=15))
    for steps in (1, 3)
)
for name, values in one[1].items():
    np.testing.assert_allclose(many[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
np.testing.assert_allclose(many[0].predict(images.X_valid), one[0].predict(images.X_valid), rtol=1e-4, atol=1e-6)

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
    optimizer=Nesterov(learning_rate=0.01), seed=2**32 - 1,
)
store = MemoryStore()
whole, expected = train_arrays(gpu, Monitor(gpu.metric, checkpoint=store))
resumed, history = train_arrays(gpu, Monitor(gpu.metric, checkpoint=store))
for name, values in expected.items():
    np.testing.assert_array_equal(history[name], values, err_msg=name)
np.testing.assert_array_equal(resumed.predict(gpu.X_valid), whole.predict(gpu.X_valid))
print("agreed")
"""


@settings(deadline=None)  # the first call imports Keras
@given(
    samples=st.integers(1, 200), batch=st.integers(1, 200), epochs=st.integers(1, 30), most=st.integers(1, 60),
    flip=st.booleans(), data=st.data(),
)  # fmt: skip
def test_calls_make_every_step_once(samples: int, batch: int, epochs: int, most: int, flip: bool, data: Any) -> None:
    """In order, from the first epoch that is left, with one size of batch each; each chunk ends with a call."""
    backend.load(KerasEngine())
    from twinnet.engines.keras.calls import calls

    problem = keras_problem((Flatten(),), input_shape=(2, 2, 1), samples=samples, epochs=epochs)
    problem = replace(problem, batch_size=min(batch, samples), augmentation=Augmentation(flip=flip))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twinnet.core.problem.MAX_RECORDS", 7)
        steps, ends = problem.steps_per_epoch, [0, *(chunk.stop for chunk in problem.chunks())]
        first = data.draw(st.sampled_from(ends))
        found = calls(problem, most, first)
    assert [step for call in found for step in call] == list(range(first * steps, epochs * steps))
    assert {end * steps for end in ends if end > first} <= {call.stop for call in found}
    for call in found:
        assert 1 <= len(call) <= most
        sizes = {min(problem.batch_size, samples - step % steps * problem.batch_size) for step in call}
        assert len(sizes) == 1


def test_keras_on_jax_is_the_reference_too(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # most of the time is compilation
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert done.stdout == "agreed\n", done.stderr
