"""The same training, looked at after several numbers of epochs."""

from collections.abc import Sequence
from dataclasses import replace

from twinnet import devices, engines
from twinnet.config.schema import Experiment
from twinnet.data.splits import Splits
from twinnet.engines.contract import FittedNetwork, Monitor
from twinnet.training import pose


def snapshots(experiment: Experiment, splits: Splits, epochs: Sequence[int]) -> dict[int, FittedNetwork]:
    """Number of epochs -> the network after so many of them; numbers beyond experiment.epochs are left out.

    Each is trained anew from the same start, so that any engine and optimizer will do; a schedule of the learning rate
    stretches over each training.
    """
    problem = pose(experiment, splits, devices.resolve(experiment.device, experiment.engine).kind)
    return {
        count: engines.fit(replace(problem, epochs=count), Monitor(problem.metric))
        for count in epochs
        if 0 < count <= problem.epochs
    }
