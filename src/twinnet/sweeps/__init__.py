"""Sweeps: many jobs from one command line, resumable, with nothing trained twice; and searches with Optuna."""

import warnings

import twinnet.figures  # noqa: F401  # sets MPLBACKEND before Matplotlib is imported


def silence_launcher_warning() -> None:
    """Silence one warning of Hydra; done in every process of a sweep, which imports this package before it composes.

    conf/hydra/launcher/joblib.yaml and its neighbours have the plugins' own names, so that Hydra checks their keys and
    types against the plugins' schemas; Hydra warns of it.
    """
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


silence_launcher_warning()
