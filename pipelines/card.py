"""Stage `card`: what a data set of params.yaml is, to reports/data/<name>/."""

from twinnet.core import config, paths
from twinnet.core.stage import argument, stage
from twinnet.data import card

with stage():
    _, dataset = argument("datasets")
    card.write(config.dataset(dataset), paths.root())
