"""Stage `publish`: one finished MLflow run for each result under runs/, also for those that DVC took from its cache."""

from twinnet.core import config, paths
from twinnet.core.stage import params, stage
from twinnet.tracking.publish import publish

if __name__ == "__main__":
    with stage():
        publish(paths.RUNS, config.tracking(params()["tracking"]))
