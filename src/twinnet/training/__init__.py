"""From data/processed/ to a finished run in runs/."""
