"""What every stage does the same: read params.yaml, log plainly, tell a user's mistake in one line."""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from twinnet.core.errors import ConfigError, exit_on_error


@contextmanager
def stage() -> Iterator[None]:
    """Run a stage; SIGTERM ends it like Ctrl-C, so that a run it was training is marked as interrupted."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of each device that it does not find
    try:
        with exit_on_error():
            yield
    except KeyboardInterrupt:
        sys.exit("interrupted")


def params() -> dict[str, Any]:
    """params.yaml of the working directory."""
    try:
        return yaml.safe_load(Path("params.yaml").read_text())
    except FileNotFoundError as error:
        raise ConfigError("expected params.yaml in the working directory; found none; run `make params`") from error
