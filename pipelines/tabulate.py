"""Stage `tabulate`: data/raw/<name>/ to the table of players in data/processed/."""

import sys

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.data.preprocess import tabulate

with stage():
    name = sys.argv[1]
    tabulate(config.dataset(params()["datasets"][name]), paths.root())
