"""Kinds of sources: the names and addresses of a data set's files at each.

Fetching and checking are the same for all. A source of one's own is a class here with a line in SOURCES, and its
`kind` in conf/dataset/<name>.yaml.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import url2pathname

from twinnet.core import paths
from twinnet.core.errors import ConfigError
from twinnet.core.schema import Dataset, ImageDataset, NBADataset, Source, TableDataset, season_name
from twinnet.data.formats import nba

MIRROR = "TWINNET_MIRROR"


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch: path in data/raw/<dataset>/, address (http, https or a path), address in provenance."""

    name: str
    address: str
    recorded: str
    headers: Mapping[str, str] = field(default_factory=dict)
    interval: float = 0.0  # seconds between two requests to this host
    pin: str = ""  # its SHA-256 in conf, if any: an accepted copy in the cache then never changes

    @property
    def is_web(self) -> bool:
        return self.address.startswith(("http://", "https://"))


class SourceKind(Protocol):
    """`origin` is the name of the source in provenance.json."""

    origin: str

    def remotes(self, source: Source, dataset: Dataset) -> list[RemoteFile]:
        """Return the files of the data set at this source; none if it is not configured."""
        ...


class Mirror:
    """The folder or http address in TWINNET_MIRROR: <dataset>/<file>, for NBA nba/<season>/<answer>.json."""

    origin = "mirror"

    def remotes(self, source: Source, dataset: Dataset) -> list[RemoteFile]:
        given = source.address or os.environ.get(MIRROR, "")
        if not given:
            return []
        folder = "nba" if isinstance(dataset, NBADataset) else dataset.name
        base = f"{_folder_or_address(given)}/{folder}"
        return [
            RemoteFile(name, f"{base}/{name}", f"{MIRROR}/{folder}/{name}", source.headers, pin=pin)
            for name, pin in file_names(dataset).items()
        ]


class Files:
    """A web address under which the files lie by their names."""

    origin = "upstream"

    def remotes(self, source: Source, dataset: Dataset) -> list[RemoteFile]:
        return [
            _remote(source, name, source.address.rstrip("/") + "/" + name, pin)
            for name, pin in file_names(dataset).items()
        ]


class NBAStats:
    """stats.nba.com: two requests a season. Every parameter has to be there, also the empty ones."""

    origin = "upstream"

    def remotes(self, source: Source, dataset: Dataset) -> list[RemoteFile]:
        if not isinstance(dataset, NBADataset):
            raise ConfigError(f"datasets.{dataset.name}: kind nba_stats serves NBA seasons only")
        found = []
        for season in nba.seasons(dataset):
            folder = nba.folder(season, dataset.season_type)
            year = {"Season": season_name(season)}
            for name, parameters in (
                (nba.INDEX, INDEX_PARAMETERS | year),
                (nba.STATS, STATS_PARAMETERS | year | {"SeasonType": nba.title(dataset.season_type)}),
            ):
                address = f"{source.address}{name.removesuffix('.json')}?{urlencode(parameters)}"
                found.append(_remote(source, f"{folder}/{name}", address))
        return found


class NBASnapshot:
    """A public repository that holds the seasons 1996-97 to 2022-23 as CSV, at a pinned commit."""

    origin = "snapshot"

    def remotes(self, source: Source, dataset: Dataset) -> list[RemoteFile]:
        if not isinstance(dataset, NBADataset):
            raise ConfigError(f"datasets.{dataset.name}: kind nba_snapshot serves NBA seasons only")
        names = (nba.SNAPSHOT_STATS[dataset.season_type], nba.SNAPSHOT_INDEX)
        return [_remote(source, name, f"{source.address}player/{name}") for name in names]


SOURCES: dict[str, SourceKind] = {
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


def source_kind(source: Source) -> SourceKind:
    if source.kind not in SOURCES:
        raise ConfigError(f"sources: expected a kind of {', '.join(SOURCES)}; received {source.kind!r}")
    return SOURCES[source.kind]


def file_names(dataset: Dataset) -> dict[str, str]:
    """Return the files of a data set by their paths in a mirror, with their pinned SHA-256, if any."""
    if isinstance(dataset, ImageDataset | TableDataset):
        return dataset.files
    if isinstance(dataset, NBADataset):
        folders = [nba.folder(season, dataset.season_type) for season in nba.seasons(dataset)]
        return {f"{folder}/{name}": "" for folder in folders for name in (nba.INDEX, nba.STATS)}
    raise ConfigError(f"datasets.{dataset.name}: {dataset.kind} names no files")


def _folder_or_address(mirror: str) -> str:
    """Return a mirror as an http address or an absolute folder; a relative folder is relative to the checkout."""
    if mirror.startswith(("http://", "https://")):
        return mirror.rstrip("/")
    folder = Path(url2pathname(urlsplit(mirror).path) if mirror.startswith("file:") else mirror).expanduser()
    return str(folder if folder.is_absolute() else paths.main_root() / folder)


def _remote(source: Source, name: str, address: str, pin: str = "") -> RemoteFile:
    pin = source.sha256.get(name, pin)
    return RemoteFile(name, address, strip_credentials(address), source.headers, source.interval, pin)


def strip_credentials(address: str) -> str:
    """Return the address without user, password and fragment."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
