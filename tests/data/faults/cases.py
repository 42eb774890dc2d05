"""The faults: what a source does wrong, for each kind of data."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.data.faults import server
from tests.data.faults.server import Behaviour, gives
from tests.data.faults.worlds import Images, World, pin
from twinnet.core.schema import Dataset, ImageDataset

Edit = Callable[[bytes], bytes]
MEBI = 1 << 20


@dataclass(frozen=True)
class Case:
    """A fault of one kind of data; `right` marks what is odd and yet has to be accepted."""

    kind: str
    name: str
    behaviour: Behaviour | None  # of the victim's server; None: the host is gone
    victim: str = ""  # another file than the world's own victim
    right: bool = False
    repin: Edit | None = None  # the hash in conf is that of the file so edited, so that what it holds is looked at
    rename: str = ""  # what conf calls the victim

    @property
    def slug(self) -> str:
        return f"{self.kind}: {self.name}"

    def configured(self, world: World) -> Dataset:
        """The data set as this case's conf describes it."""
        dataset = world.dataset()
        if not isinstance(dataset, ImageDataset):
            return dataset
        name = self.victim or world.victim
        if self.repin:
            dataset.files[name] = pin(self.repin(world.files[name]))
        if self.rename:
            dataset.files[self.rename] = dataset.files.pop(name)
            for array in dataset.arrays.values():
                array.file = self.rename if array.file == name else array.file
        return dataset


def transport(kind: str) -> list[Case]:
    """What a network and a server can do wrong, whatever they serve."""
    faults: dict[str, Behaviour | None] = {
        "nobody listens": None,
        "closes without an answer": lambda exchange: None,
        "resets the connection": server.Exchange.reset,
        "never answers": server.Exchange.wait,
        "trickles its headers": server.trickle_headers,
        "answers nonsense": lambda exchange: exchange.connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        "403": server.refused("403 Forbidden"),
        "404": server.refused("404 Not Found"),
        "429": server.refused("429 Too Many Requests"),
        "429, retry after an hour": server.refused("429 Too Many Requests", Retry_After="3600"),
        "500": server.refused("500 Internal Server Error"),
        "503": server.refused("503 Service Unavailable"),
        "204, no content": server.refused("204 No Content"),
        "redirects in a loop": server.redirected("{path}"),
        "redirects to a local file": server.redirected("file:///etc/passwd"),
        "a web page": gives(lambda body: b"<!DOCTYPE html><html><body>Access denied</body></html>"),
        "nothing": gives(lambda body: b""),
        "breaks off": server.cut,
        "breaks off, length unannounced": server.cut_unannounced,
        "resets halfway": server.reset_halfway,
        "stalls halfway": server.stall_halfway,
        "trickles": server.trickle,
        "announces 10 GB": gives(lambda body: body, Content_Length=str(10**10)),
        "never ends": server.endless,
        "announces too little": lambda exchange: exchange.send(
            headers={"Content-Length": str(len(exchange.body) * 2 // 3)}, body=exchange.body
        ),
        "damaged chunks": server.bad_chunks,
        "206 unasked": server.refused("206 Partial Content", Content_Range="bytes 0-9/10"),
    }
    if kind != "idx":  # an answer in gzip, as it was asked for
        faults["one flipped bit"] = gives(lambda body: _flipped(gzip.compress(body)), Content_Encoding="gzip")
    return [Case(kind, name, behaviour) for name, behaviour in faults.items()]


def odd_but_right(kind: str) -> list[Case]:
    oddities: dict[str, Behaviour] = {
        "500, then well": server.at_first(1, server.refused("500 Internal Server Error")),
        "429 with Retry-After: 0, then well": server.at_first(1, server.refused("429 Slow", Retry_After="0")),
        "breaks off once": server.at_first(1, server.cut),
        "resets halfway once": server.at_first(1, server.reset_halfway),
        "in chunks": server.chunked,
        "redirects once": server.at_first(1, server.redirected("{path}")),
    }
    return [Case(kind, name, behaviour, right=True) for name, behaviour in oddities.items()]


def _flipped(body: bytes) -> bytes:
    """One bit of the byte in the middle."""
    content = bytearray(body)
    content[len(content) // 2] ^= 1
    return bytes(content)


# ------------------------------------------------------------------------------------------------- tables

Answer = dict[str, Any]


def table(edit: Callable[[list[str], list[list[Any]]], None]) -> Edit:
    """An edit of the headers and the rows of an answer."""

    def edited(body: bytes) -> bytes:
        answer = json.loads(body)
        result = answer["resultSets"][0]
        edit(result["headers"], result["rowSet"])
        return json.dumps(answer).encode()

    return edited


def whole(edit: Callable[[Answer], object]) -> Edit:
    """An edit of an answer, in place or by what is returned."""

    def edited(body: bytes) -> bytes:
        answer = json.loads(body)
        changed = edit(answer)
        return json.dumps(answer if changed is None else changed).encode()

    return edited


def put(column: str, value: Any, row: int = 7) -> Edit:
    """Another value in one cell."""

    def edit(headers: list[str], rows: list[list[Any]]) -> None:
        rows[row][headers.index(column)] = value

    return table(edit)


def bit_of_rebounds(body: bytes) -> bytes:
    """One bit of the first digit of the most rebounds, uncompressed: 8.1 becomes 9.1, or 9.1 8.1."""
    rows, headers = (json.loads(body)["resultSets"][0][key] for key in ("rowSet", "headers"))
    most = max(rows, key=lambda row: row[headers.index("REB")])
    row = json.dumps(most).encode()
    at = body.index(row) + len(json.dumps(most[: headers.index("REB")])[:-1]) + 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def without(column: str) -> Edit:
    def edit(headers: list[str], rows: list[list[Any]]) -> None:
        at = headers.index(column)
        for row in [headers, *rows]:
            del row[at]

    return table(edit)


def swapped(column: str) -> Edit:
    """The largest and the smallest value of a column change places."""

    def edit(headers: list[str], rows: list[list[Any]]) -> None:
        at = headers.index(column)
        low, high = min(rows, key=lambda row: row[at]), max(rows, key=lambda row: row[at])
        low[at], high[at] = high[at], low[at]

    return table(edit)


def shuffled(headers: list[str], rows: list[list[Any]]) -> None:
    """Columns and rows in another order."""
    order = np.random.default_rng(1).permutation(len(headers))
    for row in [headers, *rows]:
        row[:] = [row[at] for at in order]
    rows[:] = [rows[at] for at in np.random.default_rng(2).permutation(len(rows))]


def nested(body: bytes) -> bytes:
    return b"[" * 200_000


def answers() -> list[Case]:
    """What an answer in JSON can get wrong."""
    stats: dict[str, Edit] = {
        "AST is missing": without("AST"),
        "PLAYER_ID is missing": without("PLAYER_ID"),
        "an id twice, other values": table(lambda headers, rows: rows.append([*rows[3][:-1], -1])),
        "an id twice, another row gone": table(lambda headers, rows: rows.__setitem__(4, rows[3])),
        "a header twice": table(lambda headers, rows: headers.__setitem__(headers.index("BLK"), "AST")),
        "a row is missing": table(lambda headers, rows: rows.pop(5)),
        "a row is too short": table(lambda headers, rows: rows[5].pop()),
        "a row is an object": table(lambda headers, rows: rows.__setitem__(5, {"PLAYER_ID": 1})),
        "too few players": table(lambda headers, rows: rows.__delitem__(slice(20, None))),
        "no players": table(lambda headers, rows: rows.clear()),
        "AST is null": put("AST", None),
        "AST is text": put("AST", "many"),
        "AST is NaN": put("AST", float("nan")),
        "AST is negative": put("AST", -1.0),
        "AST is 999": put("AST", 999.0),
        "AST of two players swapped": swapped("AST"),
        "REB of two players swapped": swapped("REB"),
        "one bit of a digit flipped": bit_of_rebounds,
        "more made than tried": put("FGM", 30.0),
        "another season": whole(lambda answer: answer["parameters"].update(Season="2018-19")),
        "the playoffs": whole(lambda answer: answer["parameters"].update(SeasonType="Playoffs")),
        "totals": whole(lambda answer: answer["parameters"].update(PerMode="Totals")),
        "no result set": whole(lambda answer: answer["resultSets"].clear()),
        "two result sets": whole(lambda answer: answer["resultSets"].append(answer["resultSets"][0])),
        "a list": whole(lambda answer: [answer]),
        "an error message": whole(lambda answer: {"Message": "An error has occurred."}),
        "nested 200,000 deep": nested,
        "not UTF-8": lambda body: body.decode().encode("utf-16"),
        "a gzip bomb": lambda body: gzip.compress(b" " * (8 * MEBI)),
    }
    index: dict[str, Edit] = {
        "POSITION is missing": without("POSITION"),
        "a position is null": put("POSITION", None),
        "a position is empty": put("POSITION", ""),
        "a position is unknown": put("POSITION", "Q"),
        "a player is not in the index": table(lambda headers, rows: rows.pop(5)),
        "twice in the index, other values": table(lambda headers, rows: rows.append([*rows[5][:-1], -1])),
        "the index is of another season": whole(lambda answer: answer["parameters"].update(Season="1999-00")),
    }
    bomb = gives(stats.pop("a gzip bomb"), Content_Encoding="gzip")
    return [
        *(Case("json", name, gives(edit)) for name, edit in stats.items()),
        *(Case("json", name, gives(edit), victim="playerindex") for name, edit in index.items()),
        Case("json", "a gzip bomb", bomb),
        Case("json", "a player twice", gives(table(lambda headers, rows: rows.append(rows[3]))), right=True),
        Case("json", "index twice", gives(table(lambda headers, rows: rows.extend(rows))), "playerindex", right=True),
        Case("json", "columns and rows shuffled", gives(table(shuffled)), right=True),
        Case("json", "index shuffled", gives(table(shuffled)), victim="playerindex", right=True),
        Case("json", "a new column", gives(table(_widened)), right=True),
        Case("json", "compressed unasked", server.encoded, right=True),
    ]


def _widened(headers: list[str], rows: list[list[Any]]) -> None:
    for row in [headers, *rows]:
        row.insert(0, "NEW" if row is headers else 1)


def lines(edit: Callable[[list[bytes]], object]) -> Edit:
    """An edit of the lines of a CSV file, the header among them."""

    def edited(body: bytes) -> bytes:
        content = body.splitlines(keepends=True)
        edit(content)
        return b"".join(content)

    return edited


def csv_files() -> list[Case]:
    """What the snapshot can get wrong; its second season, which is asked for, stands after the first."""
    faults: dict[str, Edit] = {
        "SEASON is missing": lambda body: body.replace(b"SEASON", b"YEAR", 1),
        "the season is missing": lambda body: body.replace(b"2019-20", b"2020-21"),
        "a line is missing": lines(lambda content: content.pop(70)),
        "a line is too long": lines(lambda content: content.__setitem__(70, b"1,2," + content[70])),
        "ends within the season": lines(lambda content: content.__delitem__(slice(100, None))),
        "NUL bytes": lambda body: body[:20000] + b"\0" * 500 + body[20500:],
        "a gzip bomb": lambda body: gzip.compress(b" " * (8 * MEBI)),
        "an open quote": lines(lambda content: content.insert(80, b'"')),
    }
    bomb = gives(faults.pop("a gzip bomb"), Content_Encoding="gzip")
    return [
        *(Case("csv", name, gives(edit)) for name, edit in faults.items()),
        Case("csv", "a gzip bomb", bomb),
        Case("csv", "a line twice", gives(lines(lambda content: content.append(content[70]))), right=True),
        Case("csv", "line ends of Windows", gives(lambda body: body.replace(b"\n", b"\r\n")), right=True),
        Case("csv", "a byte order mark", gives(lambda body: b"\xef\xbb\xbf" + body), right=True),
        Case("csv", "compressed unasked", server.encoded, right=True),
    ]


# ------------------------------------------------------------------------------------------------- images


def unpacked(edit: Edit) -> Edit:
    """An edit of the decompressed bytes of a gzip file."""
    return lambda body: gzip.compress(edit(gzip.decompress(body)), mtime=0)


def idx_files() -> list[Case]:
    content: dict[str, Edit] = {  # the hash is that of the damaged file: header, shape and labels have to tell
        "the type is not uint8": unpacked(lambda body: b"\0\0\x0b" + body[3:]),
        "the magic is wrong": unpacked(lambda body: b"PK\x08\x03" + body[4:]),
        "a dimension too many": unpacked(lambda body: body[:3] + b"\x04" + body[4:]),
        "255 dimensions": unpacked(lambda body: body[:3] + b"\xff" + body[4:]),
        "the header says 2**32 - 1 images": unpacked(lambda body: body[:4] + b"\xff" * 4 + body[8:]),
        "the header says fewer images": unpacked(lambda body: body[:4] + b"\0\0\0\x64" + body[8:]),
        "a byte too few": unpacked(lambda body: body[:-1]),
        "a byte too many": unpacked(lambda body: body + b"\0"),
        "empty": unpacked(lambda body: b""),
    }
    labels: dict[str, Edit] = {
        "a label out of range": unpacked(lambda body: body[:-1] + b"\x0a"),
        "a class without labels": unpacked(lambda body: body[:8] + body[8:].replace(b"\x09", b"\x08")),
    }
    wire: dict[str, Edit] = {
        "a gzip bomb": lambda body: gzip.compress(gzip.decompress(body) + b"\0" * (8 * MEBI)),
        "a wrong gzip checksum": lambda body: body[:-8] + b"\0\0\0\0" + body[-4:],
        "gzip without its end": lambda body: body[:-9],
        "compressed twice": lambda body: gzip.compress(body),
        "another file of the set": lambda body: gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\xc8" + bytes(200)),
        "right file, then more": lambda body: body + gzip.compress(b"more"),
    }
    return [
        *(Case("idx", name, gives(edit), repin=edit) for name, edit in content.items()),
        *(Case("idx", name, gives(edit), "y_train.gz", repin=edit) for name, edit in labels.items()),
        *(Case("idx", name, gives(edit)) for name, edit in wire.items()),
        Case("idx", "one flipped bit", gives(_flipped)),
        Case("idx", "a path that climbs out", server.well, rename="../../escaped.gz"),
        Case("idx", "an absolute path", server.well, rename="/tmp/escaped.gz"),
        Case("idx", "not compressed", gives(gzip.decompress), right=True),
        Case("idx", "another level of gzip", gives(lambda b: gzip.compress(gzip.decompress(b), 1)), right=True),
    ]


def archive(edit: Callable[[dict[str, np.ndarray]], object], **options: Any) -> Edit:
    """An .npz archive of the edited arrays."""

    def edited(body: bytes) -> bytes:
        arrays: dict[str, Any] = Images("npz", "files", "pictures.npz").arrays()
        edit(arrays)
        packed = io.BytesIO()
        np.savez_compressed(packed, **options, **arrays)
        return packed.getvalue()

    return edited


def climbing(body: bytes) -> bytes:
    """A right archive with one more member, whose name leads out of any folder."""
    packed = io.BytesIO(body)
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr("../../escaped.npy", b"climbed")
    return packed.getvalue()


def renamed(body: bytes) -> bytes:
    return body.replace(b"X_train.npy", b"../../a.npy")


def npz_files() -> list[Case]:
    faults: dict[str, Edit] = {
        "an array is missing": archive(lambda arrays: arrays.pop("X_test")),
        "a pickled object": archive(lambda arrays: arrays.update(X_train=np.array([{"a": 1}] * 200, object))),
        "another shape": archive(lambda arrays: arrays.update(X_train=arrays["X_train"][:100])),
        "real numbers": archive(lambda arrays: arrays.update(X_train=arrays["X_train"] / 255)),
        "values beyond 255": archive(lambda arrays: arrays.update(X_train=arrays["X_train"].astype(int) + 1)),
        "a zip bomb": archive(lambda arrays: arrays.update(X_train=np.zeros((8, MEBI), np.uint8))),
        "no archive": lambda body: b"not a zip archive" * 100,
        "a label out of range": archive(lambda arrays: arrays.update(y_train=arrays["y_train"] + 1)),
        "a member that climbs out": renamed,
    }
    return [
        *(Case("npz", name, gives(edit), repin=edit) for name, edit in faults.items()),
        Case("npz", "one flipped bit", gives(_flipped)),
        Case("npz", "breaks off", server.cut),
        Case("npz", "a gzip bomb", gives(lambda body: gzip.compress(b"\0" * (8 * MEBI)))),
        Case("npz", "labels of 64 bits", gives(_wide), repin=_wide, right=True),
    ]


_wide = archive(lambda arrays: arrays.update(y_train=arrays["y_train"].astype(np.int64)))


def cases() -> list[Case]:
    found = [case for kind in ("json", "idx", "csv") for case in transport(kind) + odd_but_right(kind)]
    return found + answers() + csv_files() + idx_files() + npz_files()
