"""Stage `card`: what a data set of params.yaml is, to reports/data/<name>.md and .png."""

import sys

from pipelines._stage import params, stage
from twinnet import config, paths
from twinnet.data import cards

with stage():
    name = sys.argv[1]
    cards.write(config.dataset(params()["datasets"][name]), paths.root())
