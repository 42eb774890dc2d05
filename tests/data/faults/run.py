"""Faults of data sources, each tried on the real download: `make faults` prints the table.

Each case is a source that does one thing wrong. Alone it must be refused in one line, within the limit, leaving
nothing; with a good source after it, the right data must come. What is odd but right must be accepted. The tests run
the same cases.
"""

import logging
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.data.faults.cases import Case, cases
from tests.data.faults.server import FaultServer, serving
from tests.data.faults.worlds import WORLDS, World
from twinnet.core import rules
from twinnet.core.errors import TwinnetError
from twinnet.core.schema import Dataset, Source, SourcePolicy
from twinnet.data.download.download import download_dataset

LIMIT = 12.0  # seconds for one source, with its retries, on a machine that is busy
WIDTH = 90  # of what is quoted in the table


@dataclass(frozen=True)
class Outcome:
    """What happened: the `message` of the faulty source alone, and whether the data was right in the end."""

    case: Case
    message: str
    seconds: float
    crashed: bool
    accepted: bool
    right: bool  # what was accepted from the odd source is the true data
    left: tuple[str, ...]  # files in data/raw, or outside the folder, although nothing was accepted
    recovered: bool  # with a good source after it, the data is the true data

    @property
    def mistakes(self) -> list[str]:
        """What should not have happened; empty where all is well."""
        wrong = {
            "a traceback": self.crashed,
            "more than one line": "\n" in self.message,
            "no message": not (self.message or self.accepted),
            "a hang": self.seconds > LIMIT,
            "wrong data accepted": self.accepted and not self.right,
            "a fault accepted": self.accepted and not self.case.right,
            "right data refused": self.case.right and not self.accepted,
            "a file left behind": bool(self.left),
            "no right data from the next source": not self.recovered,
        }
        return [mistake for mistake, happened in wrong.items() if happened]


def run(case: Case, server: FaultServer, folder: Path) -> Outcome:
    """One case, in an empty `folder`."""
    world = WORLDS[case.kind]()
    faulty, good = serve(case, world, server)
    started, message, crashed, accepted, right = time.monotonic(), "", False, False, False
    try:
        right = world.matches_truth(_download(case.configured(world), {"faulty": faulty}, folder))
        accepted = True
    except TwinnetError as error:
        message = str(error)
    except Exception as error:
        message, crashed = f"{type(error).__name__}: {error}", True
    seconds = time.monotonic() - started
    left = () if accepted else tuple(sorted(_found(folder) - {"data", "data/raw"}))
    try:
        recovered = world.matches_truth(_download(world.dataset(), {"faulty": faulty, "good": good}, folder))
    except TwinnetError:
        recovered = False
    return Outcome(case, message, seconds, crashed, accepted, right, left, recovered)


def serve(case: Case, world: World, server: FaultServer) -> tuple[Source, Source]:
    """Lay out the files of a faulty and of a good source on the server."""
    good, faulty = f"/good/{case.kind}", f"/{abs(hash(case.slug))}"
    for name, content in world.files.items():
        server.files[f"{good}/{name}"] = server.files[f"{faulty}/{name}"] = content
    if case.behaviour is None:
        return world.source("http://127.0.0.1:9"), world.source(server.address + good)
    if case.rename:
        server.files[f"{faulty}/{case.rename}"] = world.files[world.victim]
    server.behaviours[f"{faulty}/{case.victim or world.victim}"] = case.behaviour
    return world.source(server.address + faulty), world.source(server.address + good)


def _download(dataset: Dataset, sources: dict[str, Source], root: Path) -> Path:
    dataset = replace(dataset, source=SourcePolicy.real, sources=sources)
    rules.check_dataset(dataset)  # as for each data set of conf/
    return download_dataset(dataset, root)


def _found(folder: Path) -> set[str]:
    """What lies in the folder beside what downloads keep for themselves."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in names if not name.startswith(("data/cache", "data/rejected"))}


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'data':5}{'what the source does':38}{'seconds':>8}  {'outcome':12}message"]
    for outcome in outcomes:
        done = "accepted" if outcome.accepted else "refused"
        message = outcome.message.partition("faulty: ")[2].partition("; set TWINNET_MIRROR")[0] or outcome.message
        verdict = done if not outcome.mistakes else f"{done}, WRONG: {outcome.mistakes} "
        message = message if len(message) <= WIDTH else message[: WIDTH - 3] + "..."
        lines.append(f"{outcome.case.kind:5}{outcome.case.name:38}{outcome.seconds:8.2f}  {verdict:12}{message}")
    faults = [outcome for outcome in outcomes if not outcome.case.right]
    wrong = sum(bool(outcome.mistakes) for outcome in outcomes)
    lines.append(
        f"{len(outcomes)} sources of data, {wrong} answered wrongly: "
        f"{len(faults)} faults, {sum(o.accepted for o in faults)} accepted; "
        f"{len(outcomes) - len(faults)} oddities, {sum(o.accepted and o.right for o in outcomes)} accepted and right; "
        f"{sum(o.recovered for o in outcomes)} of {len(outcomes)} right with a good source after them; "
        f"slowest {max(o.seconds for o in outcomes):.1f} s"
    )
    return "\n".join(lines)


def run_all(some: list[Case], folder: Path, threads: int = 6) -> list[Outcome]:
    """The outcomes of cases, each in its own folder, several at once since most of the time is spent waiting."""
    with serving() as server, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda item: run(item[1], server, folder / str(item[0])), enumerate(some)))


def main() -> int:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run_all(cases(), Path(folder))
    print(table(outcomes))
    return int(any(outcome.mistakes for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
