"""`python -m twinnet.compare [compare.confidence=0.9 ...]`: compare the runs in runs/, then the seeds in the store.

`python -m twinnet.compare --print` prints the leaderboard in reports/ and computes nothing.
Each key of `compare.…` stands in docs/configuration.md.
"""

import logging
import sys

from twinnet.compare import seeds
from twinnet.compare.report import leaderboard_text
from twinnet.compare.write import COMPARISON, write_comparison
from twinnet.core import config, paths
from twinnet.core.errors import TwinnetError, exit_on_error
from twinnet.tracking.search_runs import runs_table

log = logging.getLogger("twinnet.compare")


def main(overrides: list[str]) -> None:
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    root = paths.root()
    reports = root / paths.REPORTS
    if overrides == ["--print"]:
        print(leaderboard_text(reports / COMPARISON))
        return
    composed = config.compose(root, "config", overrides)
    settings = config.compare(composed.compare)
    write_comparison(root / paths.RUNS, reports, settings, root=root)
    print(leaderboard_text(reports / COMPARISON))
    if settings.store:
        try:
            runs = runs_table(config.tracking(composed.tracking), root=paths.main_root())
            table = seeds.over_seeds(runs, settings.confidence)
        except TwinnetError as error:
            log.warning("no table of seeds: %s", error)
            return
        seeds.write_seeds(table, reports)
        if several := seeds.text(table):
            print(f"\n{several}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with exit_on_error():
        main(sys.argv[1:])
