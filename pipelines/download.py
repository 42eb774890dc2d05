"""Stage `download`: one data set of params.yaml, verified, to data/raw/<name>/."""

import sys

from pipelines._stage import params, stage
from twinnet import config, paths
from twinnet.data.download import download

with stage():
    name = sys.argv[1]
    download(config.dataset(params()["datasets"][name]), paths.root())
