"""Stage `train`: one experiment of params.yaml, from data/ to runs/<experiment>/."""

from twinnet.core import config, paths
from twinnet.core.stage import argument, params, stage
from twinnet.tracking import live
from twinnet.training.experiment import train

with stage():
    name, experiment = argument("experiments")
    tracker = live.tracker(config.tracking(params()["tracking"]))
    train(config.experiment(experiment), paths.RUNS / name, tracker=tracker)
