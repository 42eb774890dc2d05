"""Finished runs compared: a leaderboard with intervals, paired tests and pictures."""
