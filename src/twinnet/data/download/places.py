"""Where downloads work. The cache and what was rejected are shared by the temporary copies of a DVC experiment."""

import os
from dataclasses import dataclass
from pathlib import Path

from twinnet.core import paths
from twinnet.core.schema import Dataset, NBADataset

CACHE, REJECTED = Path("data/cache"), Path("data/rejected")


@dataclass(frozen=True)
class Places:
    """`target` is the folder to fill, `versions` holds the last version of each table, by type of season."""

    target: Path
    cache: Path
    rejected: Path
    versions: Path

    @classmethod
    def of(cls, dataset: Dataset, root: Path) -> "Places":
        shared = Path(os.environ.get("DVC_ROOT") or root)
        cache = shared / CACHE / dataset.name
        kind = dataset.season_type.value if isinstance(dataset, NBADataset) else "table"
        return cls(root / paths.RAW / dataset.name, cache, shared / REJECTED / dataset.name, cache / "versions" / kind)
