"""Stage `train`: one experiment of params.yaml, from data/ to runs/<experiment>/."""

import sys

from twinnet import tracking
from twinnet.core import config, paths
from twinnet.core.schema import Tracking
from twinnet.core.stage import params, stage
from twinnet.training.experiment import train

with stage():
    name = sys.argv[1]
    composed = params()
    tracker = tracking.tracker(Tracking(**composed["tracking"]))
    train(config.experiment(composed["experiments"][name]), paths.RUNS / name, tracker=tracker)
