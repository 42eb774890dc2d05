"""Finished runs compared: a leaderboard with intervals, paired tests and pictures."""

import twinnet.figures  # noqa: F401  # sets MPLBACKEND before Matplotlib is imported
