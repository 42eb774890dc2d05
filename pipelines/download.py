"""Stage `download`: one data set of params.yaml, verified, to data/raw/<name>/."""

import logging
import sys

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.data.download.download import download_dataset

logging.getLogger("urllib3").setLevel(logging.ERROR)  # the log of twinnet says what it retries

with stage():
    name = sys.argv[1]
    download_dataset(config.dataset(params()["datasets"][name]), paths.root())
