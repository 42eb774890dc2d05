"""Stage `card`: what a data set of params.yaml is, to reports/data/<name>/."""

import sys

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.data import card

with stage():
    name = sys.argv[1]
    card.write(config.dataset(params()["datasets"][name]), paths.root())
