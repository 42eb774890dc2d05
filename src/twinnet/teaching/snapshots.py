"""The same training, looked at after several numbers of epochs."""

from collections.abc import Sequence
from dataclasses import replace

from twinnet.core import engine
from twinnet.core.monitor import Monitor
from twinnet.core.problem import TrainedNetwork
from twinnet.core.schema import Experiment
from twinnet.core.splits import Splits
from twinnet.training import device
from twinnet.training.experiment import build_problem


def snapshots(experiment: Experiment, splits: Splits, epochs: Sequence[int]) -> dict[int, TrainedNetwork]:
    """Number of epochs -> the network after so many of them; numbers beyond experiment.epochs are left out.

    Each is trained anew from the same start, so that any engine and optimizer will do; a schedule of the learning rate
    stretches over each training.
    """
    problem = build_problem(experiment, splits, device.choose_device(experiment.device, experiment.engine).kind)
    return {
        count: engine.fit(replace(problem, epochs=count), Monitor(problem.metric))
        for count in epochs
        if 0 < count <= problem.epochs
    }
