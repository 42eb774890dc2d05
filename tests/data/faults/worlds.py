"""Small true data sets of each kind, as good servers give them, and whether downloaded data is the true data."""

import gzip
import hashlib
import io
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from twinnet.core import provenance
from twinnet.core.schema import (
    ArrayFile,
    Dataset,
    ImageData,
    ImageDataset,
    NBADataset,
    Source,
    TableData,
    Task,
    Transport,
    season_name,
)
from twinnet.data.download import synthetic_players
from twinnet.data.formats import idx, nba

PLAYERS = 60
SEASON = 2019
IMPATIENT = Transport(
    connect_timeout=2.0, read_timeout=1.0, total_timeout=3.0, retries=1, backoff=0.0, patience=0.5, max_bytes=3_000_000
)


@dataclass
class World:
    """A data set: its files by the path under a source's address, and the one of them that a fault befalls."""

    kind: str
    source_kind: str
    victim: str
    files: dict[str, bytes] = field(default_factory=dict)

    def dataset(self) -> Dataset:
        raise NotImplementedError

    def matches_truth(self, folder: Path) -> bool:
        raise NotImplementedError

    def source(self, address: str) -> Source:
        return Source(kind=self.source_kind, address=f"{address}/")


@cache
def season(year: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    return synthetic_players.players(year, PLAYERS)


class Players(World):
    """A season of 60 players: what is true of each is compared by id, not by the code under test."""

    answers: ClassVar[dict[tuple[str | bytes, ...], bool]] = {}

    def dataset(self) -> Dataset:
        return NBADataset(
            name="nba",
            season=SEASON,
            players={"regular_season": [40, 80], "playoffs": [40, 80]},
            transport=IMPATIENT,
            reading=TableData(
                name="nba",
                task=Task.binary,
                classes=["guard", "forward"],
                features=["apg", "rpg"],
                target="is_forward",
            ),
        )

    def matches_truth(self, folder: Path) -> bool:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != provenance.NAME]
        content = (self.kind, *(path.read_bytes() for path in files))
        if content not in self.answers:  # most sources give the same bytes in the end
            table = nba.table(self.dataset(), folder)  # type: ignore[arg-type]  # it is an NBADataset
            columns = ["player_id", "player_name", "pos", "apg", "rpg", "ppg", "age", "blk", "weight", "is_forward"]
            self.answers[content] = sorted(table[columns].itertuples(index=False, name=None)) == _true_players()
        return self.answers[content]


@cache
def _true_players() -> list[tuple[object, ...]]:
    stats, index = season(SEASON)
    truth = stats.merge(index, left_on="PLAYER_ID", right_on="PERSON_ID")
    truth["IS_FORWARD"] = [int(position[0] != "G") for position in truth["POSITION"]]
    columns = ["PLAYER_ID", "PLAYER_NAME", "POSITION", "AST", "REB", "PTS", "AGE", "BLK", "WEIGHT", "IS_FORWARD"]
    return sorted(truth[columns].itertuples(index=False, name=None))


@cache
def json_world() -> World:
    """stats.nba.com."""
    stats, index = season(SEASON)
    asked = {"Season": season_name(SEASON)}
    asked_stats = asked | {"SeasonType": "Regular Season", "PerMode": "PerGame"}
    answers = {
        "playerindex": synthetic_players.as_api_response("playerindex", index, asked),
        "leaguedashplayerstats": synthetic_players.as_api_response("leaguedashplayerstats", stats, asked_stats),
    }
    files = {name: json.dumps(answer).encode() for name, answer in answers.items()}
    return Players("json", "nba_stats", "leaguedashplayerstats", files)


@cache
def csv_world() -> World:
    """The snapshot: two seasons in one file."""
    seasons = {year: season(year) for year in (SEASON - 1, SEASON)}
    stats = pd.concat([both[0].assign(SEASON=season_name(year)) for year, both in seasons.items()])
    index = seasons[SEASON][1]
    name = "player/player_stats_traditionnal_rs.csv"
    files = {name: stats.to_csv(index=False).encode(), "player/player_index.csv": index.to_csv(index=False).encode()}
    return Players("csv", "nba_snapshot", name, files)


class Images(World):
    """200 training and 50 test images of 8 x 8 pixels, in ten classes."""

    def arrays(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {
            "X_train": rng.integers(256, size=(200, 8, 8), dtype=np.uint8),
            "y_train": np.arange(200, dtype=np.uint8) % 10,
            "X_test": rng.integers(256, size=(50, 8, 8), dtype=np.uint8),
            "y_test": np.arange(50, dtype=np.uint8) % 10,
        }

    def dataset(self) -> Dataset:
        npz = self.kind == "npz"
        return ImageDataset(
            name="pictures",
            transport=IMPATIENT,
            files={name: pin(content) for name, content in self.files.items()},
            arrays={
                name: ArrayFile(
                    file="pictures.npz" if npz else f"{name}.gz", member=name if npz else None, shape=list(array.shape)
                )
                for name, array in self.arrays().items()
            },
            reading=ImageData(
                name="pictures",
                task=Task.multiclass,
                classes=[str(digit) for digit in range(10)],
                image_shape=[8, 8, 1],
                valid_samples=50,
            ),
        )

    def matches_truth(self, folder: Path) -> bool:
        for name, array in self.arrays().items():
            if self.kind == "npz":
                received = np.load(folder / "pictures.npz", allow_pickle=False)[name].astype(np.uint8).tobytes()
            else:
                content = (folder / f"{name}.gz").read_bytes()
                plain = gzip.decompress(content) if content[:2] == idx.GZIP_MAGIC else content
                received = plain[4 + 4 * array.ndim :]
            if received != array.tobytes():
                return False
        return True


def pin(content: bytes) -> str:
    """SHA-256 of the decompressed bytes."""
    packed = content[:2] == idx.GZIP_MAGIC
    return hashlib.sha256(gzip.decompress(content) if packed else content).hexdigest()


@cache
def idx_world() -> World:
    world = Images("idx", "files", "X_train.gz")
    for name, array in world.arrays().items():
        world.files[f"{name}.gz"] = gzip.compress(idx.encode_idx(array), mtime=0)
    return world


@cache
def npz_world() -> World:
    world = Images("npz", "files", "pictures.npz")
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **world.arrays())
    world.files["pictures.npz"] = packed.getvalue()
    return world


WORLDS = {"json": json_world, "idx": idx_world, "csv": csv_world, "npz": npz_world}
