"""The search: `python -m twinnet.search search=nba search.trials=20 epochs=2000`.

Takes the same overrides as `twinnet.train`, with `search=` for a file of conf/search/ and `search.…` for its keys.
docs/configuration.md has each key. Started again, or in several processes at once, it goes on with the same study.
"""

import os
import signal
import sys

from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from twinnet.core import config, paths, search_schema
from twinnet.core.errors import ConfigError, exit_on_error
from twinnet.core.explain import explain
from twinnet.core.search_schema import Pruner, Search
from twinnet.sweeps import launchers


def main() -> None:
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with exit_on_error():
        root = paths.root()
        launchers.check_installed("search", "optuna", "optuna")
        composed = config.compose(root, "search", words)
        search = search_settings(composed)
        os.chdir(root)
        threads = max(1, cpu_count() // search.processes) if search.processes > 1 else None
        launchers.limit_threads(threads)
        from twinnet.sweeps.search import run_search  # 2 s: pandas, matplotlib, Optuna; also, it needs an extra

        try:
            n_failed = run_search(root, words, composed, search, threads)
        except KeyboardInterrupt:
            print("interrupted; the same command resumes the study", file=sys.stderr)
            sys.exit(130)
    sys.exit(1 if n_failed else 0)


def search_settings(composed: DictConfig) -> Search:
    """Return the validated search. Raises ConfigError."""
    try:
        search = OmegaConf.to_object(composed.search)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(search, Search)
    search_schema.check(search)
    if search.pruner is not Pruner.none and composed.objective.startswith("test/"):
        raise ConfigError(
            f"objective={composed.objective}: expected an objective of train or valid, which are known during "
            "a training; use search.pruner=none, or objective=valid/loss"
        )
    return search


if __name__ == "__main__":
    main()
