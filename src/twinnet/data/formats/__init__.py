"""Readers of raw files, each with its checks."""
