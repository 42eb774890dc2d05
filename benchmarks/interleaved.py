"""Peers measured side by side: all take turns, so that a busy machine slows all alike.

Each has a process of its own, unless the row wants one for all.

A row is a list of peers with the project's own first. A peer is `module:function`; the function prepares the work and
returns a callable that does one slice of it and says how many units that was. What it prepares (compilation, data,
warming up) is not measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "build" / "bench"
READY, SKIPPED = "ready", "skipped"


@dataclass
class Peer:
    name: str
    work: str  # module:function, or module:function:size
    environment: dict[str, str] = field(default_factory=dict)
    cores: int | None = None  # this many of the machine's; None: all
    interpreter: str = sys.executable


@dataclass
class Row:
    name: str
    unit: str
    peers: list[Peer]  # the project's own first
    at_least: dict[str, float]  # peer -> ratio
    aim: dict[str, float]
    rounds: int = 15
    note: str = ""
    kind: str = "ratio"  # or "seconds" of each peer (at_least is then at most), or "growth", a size a peer
    one_process: bool = False  # of all peers, which differ by less than one process from another of the same
    only_named: bool = False  # measured only if named: most machines lack a GPU


class Worker:
    """The process of one peer, or of several, asked for one slice at a time."""

    def __init__(self, peers: list[Peer]) -> None:
        self.peers, peer = peers, peers[0]
        self.quantities: dict[int, dict[str, float]] = {}  # peer -> what its last slice measured besides seconds
        # A user's second command finds its imports compiled, whatever PYTHONDONTWRITEBYTECODE says here.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [peer.interpreter, "-m", "benchmarks.worker", str(peer.cores or 0), *(peer.work for peer in peers)]
        # What libraries say about themselves, shown if the process fails.
        self.notes = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # `close` closes it
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.notes, text=True, cwd=ROOT,
            env=inherited | {"TF_CPP_MIN_LOG_LEVEL": "3"} | peer.environment,
        )  # fmt: skip

    def prepare(self) -> None:
        """Wait until its work is prepared, or skipped."""
        answer, _, self.reason = self._read().partition(" ")
        if answer not in (READY, SKIPPED):
            raise RuntimeError(f"{self.peers[0].name}: expected {READY} or {SKIPPED}; received {answer!r}")
        self.ready = answer == READY

    def slice(self, peer: int) -> float:
        """Seconds for one unit of this peer's work, in the slice that is done now."""
        print(peer, file=self.process.stdin, flush=True)
        seconds, units, quantities = self._read().split(maxsplit=2)
        self.quantities[peer] = json.loads(quantities)
        return float(seconds) / float(units)

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()
        self.notes.close()

    def _read(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.notes.seek(0)
            sys.stderr.write(self.notes.read())
            raise RuntimeError(f"{self.peers[0].name}: its process ended with status {self.process.wait()}")
        return line.strip()


def measure(row: Row) -> dict:
    """Seconds a unit of each peer in each round, and how many times as fast as each the project's own is.

    A ratio is the median, over the rounds, of the ratio within a round; `best` compares the fastest rounds.
    """
    workers = [Worker(peers) for peers in ([row.peers] if row.one_process else [[peer] for peer in row.peers])]
    try:
        for worker in workers:  # which prepare side by side
            worker.prepare()
        present = [(worker, i, peer.name) for worker in workers if worker.ready for i, peer in enumerate(worker.peers)]
        seconds: dict[str, list[float]] = {name: [] for _, _, name in present}
        for _ in range(row.rounds):
            for worker, i, name in present:
                seconds[name].append(worker.slice(i))
    finally:
        for worker in workers:
            worker.close()
    own = seconds[row.peers[0].name]
    ratios = {
        name: {
            "ratio": median(other / mine for other, mine in zip(values, own, strict=True)),
            "best": min(values) / min(own),
            "at_least": row.at_least.get(name),
            "aim": row.aim.get(name),
        }
        for name, values in seconds.items()
        if name != row.peers[0].name
    }
    skipped = {peer.name: worker.reason for worker in workers if not worker.ready for peer in worker.peers}
    return {
        "row": row.name, "kind": row.kind, "unit": row.unit, "own": row.peers[0].name, "note": row.note,
        "at_least": row.at_least,
        "seconds": seconds, "ratios": ratios, "skipped": skipped,
        "quantities": {name: worker.quantities.get(i, {}) for worker, i, name in present},
    }  # fmt: skip


def table(results: list[dict]) -> str:
    """The ratios as a Markdown table, seconds and growth as others, then notes and what was skipped."""
    tables = {
        "ratio": ["work | ours | peer | per unit, ours / peer | times as fast | at least | aim"],
        "seconds": ["work | what | seconds | at most"],
        "growth": ["grows with | at each size | slope of the last decade"],
    }
    for result in results:
        tables[result["kind"]] += ROWS_OF[result["kind"]](result)
    notes = []
    for result in results:
        notes += [f"- {result['row']}: {result['note']}"] if result["note"] else []
        notes += [f"- {result['row']}: {peer} was left out: {why}" for peer, why in result["skipped"].items()]
    parts = []
    for head, *rows in tables.values():
        if rows:
            parts += [f"| {row} |" for row in (head, " | ".join(["---"] * (head.count("|") + 1)), *rows)] + [""]
    return "\n".join([*parts, *notes])


def _ratios(result: dict) -> list[str]:
    own, lines = median(result["seconds"][result["own"]]), []
    for peer, ratio in result["ratios"].items():
        theirs = median(result["seconds"][peer])
        least, aim = (_number(ratio[key]) for key in ("at_least", "aim"))
        lines.append(
            f"{result['row']} | {result['own']} | {peer} | {_time(own)} / {_time(theirs)} {_article(result['unit'])} "
            f"| {ratio['ratio']:.3g} (best rounds {ratio['best']:.3g}) | {least} | {aim}"
        )
    return lines


def _article(unit: str) -> str:
    return f"{'an' if unit[0] in 'aeiou' else 'a'} {unit}"


def _seconds(result: dict) -> list[str]:
    return [
        f"{result['row']} | {peer} | {median(values):.3g} | {_number(result['at_least'].get(peer))}"
        for peer, values in result["seconds"].items()
    ]


def _growth(result: dict) -> list[str]:
    seconds = points(result)
    rows = [_growth_row(result["unit"], {size: _time(value) for size, value in seconds.items()}, seconds)]
    sized = result.get("quantities", {})
    for quantity in next(iter(sized.values()), {}):
        values = {_size(peer): found[quantity] for peer, found in sized.items()}
        if not any(values.values()):  # of a part that this sweep does not have
            continue
        texts = {size: f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for size, value in values.items()}
        rows.append(_growth_row(f"{result['unit']}: {quantity}", texts, values))
    return rows


def _growth_row(name: str, texts: dict[int, str], values: dict[int, float]) -> str:
    return f"{name} | {'; '.join(f'{size:,}: {text}' for size, text in texts.items())} | {slope(values):.2f}"


ROWS_OF = {"ratio": _ratios, "seconds": _seconds, "growth": _growth}


def points(result: dict) -> dict[int, float]:
    """Return size -> seconds of a row that grows."""
    return {_size(name): min(seconds) for name, seconds in result["seconds"].items()}


def _size(peer: str) -> int:
    return int(peer.replace(",", ""))


def slope(values: dict[int, float]) -> float:
    """Return the exponent of the size by which a value grew between the two largest sizes."""
    (size, less), (largest, most) = list(values.items())[-2:]
    return log(most / less) / log(largest / size) if less else 0.0


def keep(results: list[dict], folder: Path) -> None:
    """One JSON file a row, with every measurement."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        (folder / f"{result['row']}.json").write_text(json.dumps(result, indent=1) + "\n")


def _time(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.1f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.2f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
