"""Stage `compare`: from runs/ to reports/, and nothing but the runs of params.yaml."""

from pipelines._stage import params, stage
from twinnet import config, paths
from twinnet.compare import compare, leaderboard_text

with stage():
    composed = params()
    compare(paths.RUNS, paths.REPORTS, config.compare(composed["compare"]), names=list(composed["experiments"]))
    print(leaderboard_text(paths.REPORTS))
