"""The same network after several numbers of epochs."""

from collections.abc import Sequence
from dataclasses import replace

from twinnet.core import engine
from twinnet.core.monitor import Monitor
from twinnet.core.problem import TrainedNetwork
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.training import device
from twinnet.training.experiment import build_problem


def train_snapshots(experiment: Experiment, splits: Splits, epochs: Sequence[int]) -> dict[int, TrainedNetwork]:
    """Return the network after each number of epochs, without the numbers beyond experiment.epochs.

    Each is a training from the same initial weights, with any engine and optimizer; a schedule of the learning rate
    spans each training.
    """
    problem = build_problem(experiment, splits, device.choose_device(experiment.device, experiment.engine).kind)
    return {
        count: engine.fit(replace(problem, epochs=count), Monitor(problem.metric))
        for count in epochs
        if 0 < count <= problem.epochs
    }
