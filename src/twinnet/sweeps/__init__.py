"""Sweeps: many jobs from one command line, resumable, with nothing trained twice.

`grid` turns a command line into jobs, `results` finds what is trained already, `jobs` trains one in whatever process
a Hydra launcher gives it, `sweep` leads the whole and `summary` tells how it went. `study` is the search with Optuna.
"""

import warnings


def quiet() -> None:
    """Silence one warning of Hydra; done in every process of a sweep, which imports this module before it composes.

    conf/hydra/launcher/joblib.yaml and its neighbours bear the plugins' own names, so Hydra checks their keys and
    types against the plugins' schemas, which is wanted, and warns of it.
    """
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


quiet()
