"""Stage `download`: one data set of params.yaml, verified, to data/raw/<name>/."""

import logging
import sys

from pipelines._stage import params, stage
from twinnet import config, paths
from twinnet.data.download import download

logging.getLogger("urllib3").setLevel(logging.ERROR)  # the log of twinnet says what it retries

with stage():
    name = sys.argv[1]
    download(config.dataset(params()["datasets"][name]), paths.root())
