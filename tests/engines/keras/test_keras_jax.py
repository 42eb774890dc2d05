"""The Keras engine on its JAX backend, in a process of its own: Keras has one backend for life."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib.util, sys
from dataclasses import replace
from pathlib import Path

import numpy as np

spec = importlib.util.spec_from_file_location("problems", sys.argv[1])
problems = importlib.util.module_from_spec(spec)
spec.loader.exec_module(problems)

from twinnet.config.schema import Activation, Augmentation, Backend, EarlyStopping, KerasEngine, ScratchEngine
from twinnet.config.schema import ArrayLibrary, Task
from twinnet.engines import keras as engine
from twinnet.engines.contract import Monitor
from twinnet.networks import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D

engine_on_jax = KerasEngine(backend=Backend.jax)
problem = problems.pose_problem(dtype="float32", engine=engine_on_jax, epochs=25, l2=0.001)
fitted, history = problems.solve(problem)
expected = problems.solve(replace(problem, engine=ScratchEngine(array=ArrayLibrary.numpy)))[1]
for name, values in expected.items():
    np.testing.assert_allclose(history[name], values, rtol=0, atol=1e-5, err_msg=name)
again = engine.load(fitted.save(Path(sys.argv[2])))
np.testing.assert_array_equal(again.predict(problem.X_valid), fitted.predict(problem.X_valid))

full = problems.pose_problem(dtype="float32", engine=engine_on_jax, epochs=2100, batch_size=50)
assert len(problems.solve(full)[1]["train/loss"]) == 2100

hidden = (Conv2D(3, 3, 1, Activation.relu), BatchNorm(), MaxPool2D(), Flatten())
images = problems.pose_problem(
    hidden, input_shape=(6, 6, 1), task=Task.multiclass, dtype="float32", engine=engine_on_jax, epochs=30,
    augmentation=Augmentation(flip=True, shift=1),
)
monitor = Monitor(images.metric, EarlyStopping(patience=3))
fitted, history = problems.solve(images, monitor)
assert history["train/loss"][-1] < history["train/loss"][0]
print("agreed")
"""


def test_keras_on_jax_is_the_reference_too(root: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(root / "tests/engines/conftest.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout == "agreed\n", done.stderr
