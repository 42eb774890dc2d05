"""Tables of faults: each row is tried for real, answered, and right or wrong. `make faults` prints all of them.

The rows lie beside the tests of what they try, which try them too.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TABLES = {  # name -> module; the longest first
    "configurations": "tests.core.faults",
    "stores and servers": "tests.tracking.faults",
    "machines": "tests.machines",
    "sources of data": "tests.data.faults.run",
    "files of a run, checkpoints": "tests.training.faults",
}
COMMANDS = 2  # at once; most of them wait for a third of their time
WIDTH = 110  # of what is quoted


@dataclass(frozen=True)
class Outcome:
    """What was tried, what was answered, and what is wrong with it: nothing, if all is well."""

    tried: str
    answer: str
    mistakes: tuple[str, ...] = ()


def table(outcomes: Sequence[Outcome], what: str, width: int = 60) -> str:
    """Return a line for each outcome, and one with the totals."""
    lines = [f"{what:{width}}what happened"]
    for outcome in outcomes:
        verdict = f"WRONG: {', '.join(outcome.mistakes)}; " if outcome.mistakes else ""
        lines.append(f"{_cut(outcome.tried, width - 2):{width}}{verdict}{_cut(outcome.answer, WIDTH)}")
    return "\n".join([*lines, f"{len(outcomes)} {what}, {sum(bool(o.mistakes) for o in outcomes)} answered wrongly"])


def _cut(text: str, width: int) -> str:
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= width else f"{text[: width - 3]}..."


def report(tables: dict[str, Callable[[Path], Sequence[Outcome]]]) -> int:
    """Print a table for each function, which is given an empty folder; return the exit status."""
    status = 0
    for what, run_all in tables.items():
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcomes = run_all(Path(folder))
        print(f"{table(outcomes, what)} in {time.monotonic() - begun:.0f} s", flush=True)
        status |= any(outcome.mistakes for outcome in outcomes)
    return status


def main() -> int:
    begun, totals, status = time.monotonic(), ["== totals"], 0

    def run(module: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    with ThreadPoolExecutor(COMMANDS) as pool:
        for name, done in zip(TABLES, pool.map(run, TABLES.values()), strict=True):
            print(f"\n== {name}\n{done.stdout}", flush=True)
            totals += [line for line in done.stdout.splitlines() if "answered wrongly" in line]
            totals += [f"{name}: WRONG, exit status {done.returncode}"] if done.returncode else []
            status |= done.returncode != 0
    print("\n".join([*totals, f"{time.monotonic() - begun:.0f} s in all"]))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
