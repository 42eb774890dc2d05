"""Where things lie: the repository root and the folders of the contract of outputs, relative to it."""

import os
from pathlib import Path

from twinnet.core.errors import TwinnetError

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
RUNS = Path("runs")
REPORTS = Path("reports")


def root(start: Path | None = None) -> Path:
    """The folder that holds conf/ and dvc.yaml: the nearest one at or above `start` (the working directory).

    In a DVC experiment that is its temporary copy, so that stages read and write there.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "conf" / "config.yaml").is_file():
            return folder
    raise TwinnetError(f"expected to be inside a checkout of the project (with conf/ and dvc.yaml); received {start}")


def main_root() -> Path:
    """The repository itself, also inside a DVC experiment's temporary copy (DVC_ROOT): where stores live."""
    return Path(os.environ["DVC_ROOT"]) if os.environ.get("DVC_ROOT") else root()
