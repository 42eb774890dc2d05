"""`python -m benchmarks [row ...]`: speeds as ratios against named peers, printed, and kept under build/bench/."""

import argparse
import platform
from importlib import import_module

from benchmarks import growth
from benchmarks.interleaved import BENCH, keep, measure, table

NAMES = ("tiny", "dense", "batch", "keras_engine", "tracking", "commands", "sweep", "growth", "devices")
MODULES = tuple(f"benchmarks.{name}" for name in NAMES)


def main() -> None:
    rows = {row.name: row for module in MODULES for row in import_module(module).ROWS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = ", ".join(rows)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"any of {known}; by default all that need no GPU")
    chosen = parser.parse_args().rows or [name for name, row in rows.items() if not row.only_named]
    if unknown := set(chosen) - set(rows):
        parser.error(f"expected any of {known}; received {', '.join(sorted(unknown))}")
    results, failed = [], []
    for name in chosen:
        print(f"measuring {name} ...", flush=True)
        try:
            results.append(measure(rows[name]))
        except Exception as error:  # the other rows are measured all the same
            failed.append(name)
            print(f"{name} failed: {error}", flush=True)
            continue
        keep(results[-1:], BENCH)
    if growing := [result for result in results if result["kind"] == "growth"]:
        print(f"figure: {growth.draw(growing, BENCH / 'growth.png')}")
    text = f"{platform.machine()}, Python {platform.python_version()}\n\n{table(results)}"
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "table.md").write_text(text + "\n")
    print(f"\n{text}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
