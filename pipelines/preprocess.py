"""Stage `preprocess`: data/raw/<name>/ to data/processed/<name>/: arrays.npz or table.csv."""

from twinnet.core import config, paths
from twinnet.core.stage import argument, stage
from twinnet.data.preprocess import preprocess_dataset

with stage():
    _, dataset = argument("datasets")
    preprocess_dataset(config.dataset(dataset), paths.root())
