"""`python -m benchmarks [row ...]`: speeds as ratios against named peers, printed, and kept under build/bench/."""

import argparse
import platform
from importlib import import_module

from benchmarks.interleaved import ROOT, keep, measure, table

MODULES = tuple(f"benchmarks.{name}" for name in ("tiny", "dense", "batch", "keras_images", "tracking", "sweep"))


def main() -> None:
    rows = {row.name: row for module in MODULES for row in import_module(module).ROWS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"any of {', '.join(rows)}; all where none is named")
    chosen = parser.parse_args().rows or list(rows)
    if unknown := set(chosen) - set(rows):
        parser.error(f"expected any of {', '.join(rows)}; received {', '.join(sorted(unknown))}")
    results = []
    for name in chosen:
        print(f"measuring {name} ...", flush=True)
        results.append(measure(rows[name]))
        keep(results[-1:], ROOT / "build" / "bench")
    print(f"\n{platform.machine()}, Python {platform.python_version()}\n\n{table(results)}")


if __name__ == "__main__":
    main()
