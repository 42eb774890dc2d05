"""One thin script per DVC stage. Run as `python -m pipelines.<stage>` at the root of a checkout.

The `src` beside this folder goes first on the path: a stage in a DVC experiment's copy runs that copy's code.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
