"""The numbers that the chapter's algorithm gave on the real 2019-20 players, recorded beside the project."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.problems import assemble
from twinnet.core.monitor import Monitor
from twinnet.core.network import Dense, Network
from twinnet.core.problem import Problem
from twinnet.core.schema import Activation, ArrayLibrary, Dtype, GradientDescent, Initializer, ScratchEngine
from twinnet.engines import scratch

SHORT = 1000  # epochs that the reference trains here; the compiled engine trains all


@pytest.fixture(scope="module")
def golden(root: Path) -> dict:
    folder = Path(os.environ.get("TWINNET_GOLDEN", root.parent / "shared" / "golden"))
    files = sorted(folder.glob("nba_*_units_2_4_1.json"))
    if not files:
        pytest.skip(f"needs TWINNET_GOLDEN, a folder with the recorded numbers; {folder} has none")
    return json.loads(files[0].read_text())


def problem(golden: dict, array: str, epochs: int) -> Problem:
    network = Network((2,), (Dense(4, Activation.sigmoid), Dense(1, Activation.sigmoid)))
    X, y = np.array(golden["X_train"]), np.array(golden["y_train"])
    return assemble(
        network, (X, y), (X[:10], y[:10]), init=Initializer.uniform, init_seed=golden["numpy_seed"], epochs=epochs,
        optimizer=GradientDescent(learning_rate=golden["learning_rate"]),
        engine=ScratchEngine(dtype=Dtype.float64, array=ArrayLibrary(array)),
    )  # fmt: skip


def check_history(golden: dict, history: dict[str, np.ndarray]) -> None:
    epochs = len(history["train/loss"])
    seen = [int(epoch) for epoch in golden["loss_before_update_at_epoch"] if int(epoch) < epochs]
    assert len(seen) >= 5
    for epoch in seen:
        assert abs(history["train/loss"][epoch] - golden["loss_before_update_at_epoch"][str(epoch)]) < 1e-10
        assert history["train/accuracy"][epoch] == pytest.approx(golden["accuracy_at_epoch"][str(epoch)], abs=1e-12)


def test_start_is_drawn_as_recorded(golden: dict) -> None:
    for layer, W, b in zip(problem(golden, "numpy", 1).weights, *golden["init"].values(), strict=True):
        np.testing.assert_array_equal(layer["W"].T, W)
        np.testing.assert_array_equal(layer["b"][:, None], b)


@pytest.mark.parametrize("epochs", [1, SHORT])
def test_reference_bit_for_bit(golden: dict, epochs: int) -> None:
    monitor = Monitor("accuracy")
    fitted = scratch.fit(problem(golden, "numpy", epochs), monitor)
    expected = golden["weights_after_epochs"][str(epochs)]
    for layer, W, b in zip(fitted.weights(), expected["W"], expected["B"], strict=True):
        np.testing.assert_array_equal(layer["W"].T, W)
        np.testing.assert_array_equal(layer["b"][:, None], b)
    if epochs == SHORT:
        check_history(golden, monitor.history.arrays())


def test_compiled_through_all_epochs(golden: dict) -> None:
    monitor = Monitor("accuracy")
    fitted = scratch.fit(problem(golden, "jax", golden["epochs"]), monitor)
    check_history(golden, monitor.history.arrays())
    expected = golden["weights_after_epochs"][str(golden["epochs"])]
    for layer, W, b in zip(fitted.weights(), expected["W"], expected["B"], strict=True):
        np.testing.assert_allclose(layer["W"].T, W, atol=1e-10)
        np.testing.assert_allclose(layer["b"][:, None], b, atol=1e-10)
