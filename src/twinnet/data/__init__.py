"""Data: where it comes from, how it is checked, how experiments read it."""
