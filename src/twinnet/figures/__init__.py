"""Figures of one run, and the style of all figures."""
