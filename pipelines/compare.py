"""Stage `compare`: from the runs of params.yaml to reports/."""

from twinnet.compare.report import leaderboard_text
from twinnet.compare.write import COMPARISON, write_comparison
from twinnet.core import config, paths
from twinnet.core.stage import params, stage

with stage():
    composed = params()
    settings = config.compare(composed["compare"])
    write_comparison(paths.RUNS, paths.REPORTS, settings, names=list(composed["experiments"]))
    print(leaderboard_text(paths.REPORTS / COMPARISON))
