"""Stage `train`: one experiment of params.yaml, from data/ to runs/<experiment>/."""

import sys

from twinnet.core import config, paths
from twinnet.core.schema import Tracking
from twinnet.core.stage import params, stage
from twinnet.tracking import live
from twinnet.training.experiment import train

with stage():
    name = sys.argv[1]
    composed = params()
    tracker = live.tracker(Tracking(**composed["tracking"]))
    train(config.experiment(composed["experiments"][name]), paths.RUNS / name, tracker=tracker)
