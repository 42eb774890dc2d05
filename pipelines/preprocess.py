"""Stage `preprocess`: data/raw/<name>/ to data/processed/<name>/: arrays.npz or table.csv."""

import sys

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.data.preprocess import preprocess_dataset

with stage():
    name = sys.argv[1]
    preprocess_dataset(config.dataset(params()["datasets"][name]), paths.root())
