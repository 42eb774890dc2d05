"""Pictures of one run."""

import os
import sys

if "ipykernel" not in sys.modules:  # IPython sets its own backend for what a notebook starts (`!make repro`)
    os.environ["MPLBACKEND"] = "agg"
