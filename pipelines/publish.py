"""Stage `publish`: one finished MLflow run for each result under runs/, also for those that DVC took from its cache."""

from pipelines._stage import params, stage
from twinnet import paths, tracking
from twinnet.config.schema import Tracking

if __name__ == "__main__":
    with stage():
        tracking.publish(paths.RUNS, Tracking(**params()["tracking"]))
