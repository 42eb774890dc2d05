"""Sweeps: many jobs from one command line, resumable, with nothing trained twice.

`grid` turns a command line into jobs, `results` finds what is trained already, `jobs` trains one in whatever process
a Hydra launcher gives it, `sweep` leads the whole and `summary` tells how it went. `study` is the search with Optuna.
"""
