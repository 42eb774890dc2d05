"""Stage `train`: one experiment of params.yaml, from data/ to runs/<experiment>/."""

import sys

from pipelines._stage import params, stage
from twinnet import config, paths, tracking, training
from twinnet.config.schema import Tracking

with stage():
    name = sys.argv[1]
    composed = params()
    tracker = tracking.tracker(Tracking(**composed["tracking"]))
    training.train(config.experiment(composed["experiments"][name]), paths.RUNS / name, tracker=tracker)
