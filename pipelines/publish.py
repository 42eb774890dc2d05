"""Stage `publish`: one finished MLflow run for each result under runs/, also for those that DVC took from its cache."""

import os
import sys

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.tracking.publish import publish

if __name__ == "__main__":
    with stage():
        result = publish(paths.RUNS, config.tracking(params()["tracking"]))
        if result.unsent and "DVC_STAGE" not in os.environ:  # under DVC a store that is away fails no `dvc repro`
            sys.exit(1)
