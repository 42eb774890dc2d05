"""The process of one peer, or of several that share it: `python -m benchmarks.worker cores module:function ...`.

See `interleaved`. A slice returns its units, or its units and the seconds that count (of CPU, say), or these and a
dictionary of other quantities.
A line on stdin, the number of the peer, asks for one slice of its work.
"""

import json
import os
import sys
import time
from importlib import import_module


def main(cores: int, works: list[str]) -> None:
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not be taken for an answer
    os.dup2(2, 1)
    slices = []
    try:
        for work in works:
            module, function, *size = work.split(":")
            slices.append(getattr(import_module(module), function)(*map(int, size)))
            slices[-1]()
    except ImportError as error:
        print("skipped", error, file=answers, flush=True)
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        do = slices[int(line)]
        start = time.perf_counter()
        units, quantities = do(), {}
        seconds = time.perf_counter() - start
        if isinstance(units, tuple):
            units, seconds, *rest = units
            quantities = rest[0] if rest else {}
        print(seconds, units, json.dumps(quantities), file=answers, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
