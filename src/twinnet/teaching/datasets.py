"""Tables and images of conf/dataset/ in one line, downloaded if they are not there yet."""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from twinnet.core import config, paths, provenance
from twinnet.core.errors import ConfigError
from twinnet.core.provenance import SYNTHETIC, SYNTHETIC_NOTE
from twinnet.core.schema import Dataset, ImageDataset, NBADataset
from twinnet.core.stage import params
from twinnet.data.download.download import CACHE, download_dataset
from twinnet.data.formats import idx, nba

log = logging.getLogger(__name__)


class Images(NamedTuple):
    """Images (samples, height, width) and labels (samples,) of a data set, uint8, with the names of its classes."""

    X_train: np.ndarray
    y_train: np.ndarray
    classes: list[str]
    source: str  # upstream, mirror, snapshot or synthetic
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None


def load_players(season: int = 2019) -> pd.DataFrame:
    """Return the players of the season that begins in that year, one a row; `attrs["source"]` is their source.

    `apg`, `rpg` and `ppg` are assists, rebounds and points per game, `pos` the position, `is_forward` 0 or 1.
    Raises ConfigError or DataError if there are none.
    """
    dataset, raw, source = _find_or_download("nba", season=season, seasons=None)
    assert isinstance(dataset, NBADataset)
    players = nba.table(dataset, raw)
    players.attrs["source"] = source
    return players


def load_images(name: str = "fashion_mnist") -> Images:
    """Return the images of a data set: `mnist`, `fashion_mnist` or one of your own.

    Raises ConfigError or DataError if there are none.
    """
    dataset, raw, source = _find_or_download(name)
    if not isinstance(dataset, ImageDataset):
        raise ConfigError(f"load_images: expected a data set of images; received {name}, whose kind is {dataset.kind}")
    arrays = idx.read(dataset, raw, pinned=source != SYNTHETIC)
    return Images(**arrays, classes=list(dataset.reading.classes or []), source=source)


def _find_or_download(name: str, **changes: Any) -> tuple[Dataset, Path, str]:
    """Return a data set of params.yaml, with changes, and the folder and the source of its files.

    The folder is data/raw/<name>/ of the pipeline if that holds this data set, else one below data/cache/.
    """
    root = paths.root()
    suite = params(root)["datasets"]
    if name not in suite:
        raise ConfigError(f"expected a data set of conf/config.yaml: {', '.join(suite)}; received {name!r}")
    dataset = config.dataset(suite[name] | changes)
    cache = root / CACHE / f"teaching-{hashlib.sha256(repr(dataset).encode()).hexdigest()[:16]}"
    is_made = dataset == config.dataset(suite[name]) and (root / paths.RAW / name / provenance.NAME).is_file()
    home = root if is_made else cache
    has_files = (home / paths.RAW / name / provenance.NAME).is_file()
    if not has_files or (home is cache and provenance.read(name, home).source == SYNTHETIC):  # perhaps it answers now
        download_dataset(dataset, home)
    elif is_made and provenance.read(name, home).source == SYNTHETIC:
        log.warning("%s: %s", name, SYNTHETIC_NOTE)  # as the download says
    return dataset, home / paths.RAW / name, provenance.read(name, home).source
