"""Stage `compare`: from runs/ to reports/, and nothing but the runs of params.yaml."""

from twinnet.compare import compare, leaderboard_text
from twinnet.core import config, paths
from twinnet.core.stage import params, stage

with stage():
    composed = params()
    compare(paths.RUNS, paths.REPORTS, config.compare(composed["compare"]), names=list(composed["experiments"]))
    print(leaderboard_text(paths.REPORTS))
