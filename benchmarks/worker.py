"""The process of one peer: `python -m benchmarks.worker module:function cores`; see `interleaved`."""

import os
import sys
import time
from importlib import import_module


def main(work: str, cores: int) -> None:
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    module, _, function = work.partition(":")
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not be taken for an answer
    os.dup2(2, 1)
    try:
        do = getattr(import_module(module), function)()
        do()
    except ImportError as error:
        print("skipped", error, file=answers, flush=True)
        return
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        units = do()
        print(time.perf_counter() - start, units, file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
