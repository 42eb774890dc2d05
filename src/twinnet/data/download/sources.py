"""Where the files of a data set lie, source by source, in the order in which conf/dataset/<name>.yaml lists them.

A source is a class with one method that names files and addresses; how they are fetched and checked is the same for
all. A source of one's own is a class here with a line in SOURCES, and its `kind` in the yaml file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from twinnet.core.errors import ConfigError
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, Source
from twinnet.data.formats import nba

MIRROR = "TWINNET_MIRROR"


@dataclass(frozen=True)
class Remote:
    """A file to get: its path in data/raw/<dataset>/, its address (http, https or a path), what is recorded of it."""

    name: str
    address: str
    recorded: str
    headers: Mapping[str, str] = field(default_factory=dict)
    interval: float = 0.0  # seconds between two requests to this host
    pinned: bool = False  # its hash is known, so that a partial download can be resumed without asking what changed

    @property
    def is_web(self) -> bool:
        return self.address.startswith(("http://", "https://"))


class Locator(Protocol):
    """What a source is. `origin` is how provenance.json calls what comes from it."""

    origin: str

    def remotes(self, source: Source, dataset: Dataset) -> list[Remote]:
        """The files of the data set at this source; none where it does not apply."""
        ...


class Mirror:
    """The folder or http address in TWINNET_MIRROR: <dataset>/<file>, for NBA nba/<season>/<answer>.json."""

    origin = "mirror"

    def remotes(self, source: Source, dataset: Dataset) -> list[Remote]:
        base = (source.address or os.environ.get(MIRROR, "")).rstrip("/")
        if not base:
            return []
        base = base.removeprefix("file://")
        folder = "nba" if isinstance(dataset, NBADataset) else dataset.name
        return [
            Remote(name, f"{base}/{folder}/{name}", f"{MIRROR}/{folder}/{name}", source.headers, pinned=pinned)
            for name, pinned in file_names(dataset).items()
        ]


class Files:
    """A web address under which the files lie by their names."""

    origin = "upstream"

    def remotes(self, source: Source, dataset: Dataset) -> list[Remote]:
        return [
            _remote(source, name, source.address.rstrip("/") + "/" + name, pinned)
            for name, pinned in file_names(dataset).items()
        ]


class NBAStats:
    """stats.nba.com: two requests a season. Every parameter has to be there, also the empty ones."""

    origin = "upstream"

    def remotes(self, source: Source, dataset: Dataset) -> list[Remote]:
        if not isinstance(dataset, NBADataset):
            raise ConfigError(f"datasets.{dataset.name}: kind nba_stats serves NBA seasons only")
        found = []
        for season in nba.seasons(dataset):
            folder = nba.folder(season, dataset.season_type)
            asked = {"Season": nba.label(season)}
            for name, parameters in (
                (nba.INDEX, INDEX_PARAMETERS | asked),
                (nba.STATS, STATS_PARAMETERS | asked | {"SeasonType": nba.title(dataset.season_type)}),
            ):
                address = f"{source.address}{name.removesuffix('.json')}?{urlencode(parameters)}"
                found.append(_remote(source, f"{folder}/{name}", address, pinned=False))
        return found


class NBASnapshot:
    """A public repository that holds the seasons 1996-97 to 2022-23 as CSV, at a pinned commit."""

    origin = "snapshot"

    def remotes(self, source: Source, dataset: Dataset) -> list[Remote]:
        if not isinstance(dataset, NBADataset):
            raise ConfigError(f"datasets.{dataset.name}: kind nba_snapshot serves NBA seasons only")
        names = (nba.SNAPSHOT_STATS[dataset.season_type], nba.SNAPSHOT_INDEX)
        return [_remote(source, name, f"{source.address}player/{name}", pinned=False) for name in names]


SOURCES: dict[str, Locator] = {
    "mirror": Mirror(),
    "files": Files(),
    "nba_stats": NBAStats(),
    "nba_snapshot": NBASnapshot(),
}

_COMMON = ("College", "Country", "DraftPick", "Height", "PlayerPosition", "TeamID", "Weight")
INDEX_PARAMETERS = dict.fromkeys((*_COMMON, "Active", "AllStar", "DraftYear"), "") | {
    "Historical": "1",
    "LeagueID": "00",
}
STATS_PARAMETERS = dict.fromkeys(
    (
        *(
            *_COMMON,
            "Conference",
            "DateFrom",
            "DateTo",
            "Division",
            "DraftYear",
            "GameScope",
            "GameSegment",
            "Location",
        ),
        *("Outcome", "PORound", "PlayerExperience", "SeasonSegment", "ShotClockRange", "StarterBench", "TwoWay"),
        *("VsConference", "VsDivision"),
    ),
    "",
) | {
    "LastNGames": "0",
    "LeagueID": "00",
    "MeasureType": "Base",
    "Month": "0",
    "OpponentTeamID": "0",
    "PaceAdjust": "N",
    "PerMode": "PerGame",
    "Period": "0",
    "PlusMinus": "N",
    "Rank": "N",
}


def locator(source: Source) -> Locator:
    if source.kind not in SOURCES:
        raise ConfigError(f"sources: expected a kind of {', '.join(SOURCES)}; received {source.kind!r}")
    return SOURCES[source.kind]


def file_names(dataset: Dataset) -> dict[str, bool]:
    """The files of a data set as a mirror names them -> whether their hash is pinned; none of them climbs out."""
    if isinstance(dataset, ImageDataset):
        names = dict.fromkeys(dataset.files, True)
        for key, array in dataset.arrays.items():
            if array.file not in names:
                expected = f"expected one of {', '.join(names)}; received {array.file!r}"
                raise ConfigError(f"datasets.{dataset.name}.arrays.{key}.file: {expected}")
    elif isinstance(dataset, NBADataset):
        folders = [nba.folder(season, dataset.season_type) for season in nba.seasons(dataset)]
        names = {f"{folder}/{name}": False for folder in folders for name in (nba.INDEX, nba.STATS)}
    else:
        raise ConfigError(f"datasets.{dataset.name}: {dataset.kind} names no files")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name or name.startswith("."):
            raise ConfigError(f"datasets.{dataset.name}.files: expected a path inside its folder; received {name!r}")
    return names


def _remote(source: Source, name: str, address: str, pinned: bool) -> Remote:
    return Remote(name, address, public(address), source.headers, source.interval, pinned)


def public(address: str) -> str:
    """The address without user, password and fragment."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
