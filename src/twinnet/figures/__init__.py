"""The figures of one run, and the style of all figures."""

import os
import sys

if "ipykernel" not in sys.modules:  # IPython sets its own backend for commands of a notebook (`!make repro`)
    os.environ["MPLBACKEND"] = "agg"  # before Matplotlib is imported: figures are files
