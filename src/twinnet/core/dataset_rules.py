"""Rules for the values of conf/dataset/: one line for each that cannot be used, before anything is downloaded."""

import math
import re
from typing import Any

from twinnet.core.errors import ConfigError
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, Transport

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # of a data set: a folder's name, never a path


def check_dataset(dataset: Dataset) -> None:
    """Raise ConfigError for the first value of a data set that cannot be used."""
    if not NAME.fullmatch(dataset.name):
        raise ConfigError(
            f"datasets.name: expected at most 100 letters, digits, _, - and ., the first a letter or digit; "
            f"received {dataset.name[:120]!r}"
        )
    key = f"datasets.{dataset.name}"
    _expect(dataset.reading.name == dataset.name, f"{key}.reading.name", dataset.name, dataset.reading.name)
    _check_transport(dataset.transport, f"{key}.transport")
    for name, source in dataset.sources.items():
        _expect(_at_least_0(source.interval), f"{key}.sources.{name}.interval", "seconds, 0 or more", source.interval)
    if isinstance(dataset, NBADataset):
        _expect(0 <= dataset.max_left_out < 1, f"{key}.max_left_out", "0 or more, below 1", dataset.max_left_out)
        players = dataset.players.get(dataset.season_type.value, [])
        plausible = len(players) == 2 and 0 < players[0] <= players[1]
        _expect(plausible, f"{key}.players.{dataset.season_type}", "the fewest and the most players", players)
    if isinstance(dataset, ImageDataset):
        _expect(
            {"X_train", "y_train"} <= set(dataset.arrays), f"{key}.arrays", "X_train and y_train", [*dataset.arrays]
        )
        for name, array in dataset.arrays.items():
            positive = bool(array.shape) and min(array.shape) >= 1
            _expect(positive, f"{key}.arrays.{name}.shape", "numbers of 1 or more", array.shape)


def _check_transport(transport: Transport, key: str) -> None:
    for name in ("connect_timeout", "read_timeout", "total_timeout"):
        seconds = getattr(transport, name)
        _expect(0 < seconds < math.inf, f"{key}.{name}", "seconds, more than 0", seconds)
    for name in ("backoff", "patience"):
        seconds = getattr(transport, name)
        _expect(_at_least_0(seconds), f"{key}.{name}", "seconds, 0 or more", seconds)
    for name in ("retries", "max_redirects"):
        _expect(getattr(transport, name) >= 0, f"{key}.{name}", "0 or more", getattr(transport, name))
    _expect(transport.max_bytes >= 1, f"{key}.max_bytes", "1 or more", transport.max_bytes)


def _at_least_0(seconds: float) -> bool:
    return 0 <= seconds < math.inf


def _expect(holds: bool, key: str, expected: str, received: Any) -> None:
    if not holds:
        raise ConfigError(f"{key}: expected {expected}; received {received}")
