"""Stage `download`: one data set of params.yaml, verified, to data/raw/<name>/."""

import logging

from twinnet.core import config, paths
from twinnet.core.stage import argument, stage
from twinnet.data.download.download import download_dataset

logging.getLogger("urllib3").setLevel(logging.ERROR)  # the log of twinnet says what it retries

with stage():
    _, dataset = argument("datasets")
    download_dataset(config.dataset(dataset), paths.root())
