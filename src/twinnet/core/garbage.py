"""Python's search for cycles of garbage, a large part of the start and the end of a process with TensorFlow."""

import atexit
import gc

THRESHOLD = 10_000  # new objects from one search to the next; 700 by default


def collect_rarely() -> None:
    """Collect a tenth as often, and skip the collection at exit."""
    gc.set_threshold(THRESHOLD)
    atexit.unregister(gc.freeze)  # it may have been called before
    atexit.register(gc.freeze)
