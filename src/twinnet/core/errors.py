"""Errors for the user, printed as one line: expected, received, remedy."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twinnet.core.garbage import collect_rarely

log = logging.getLogger(__name__)


class TwinnetError(Exception):
    """Base of the errors that are a message for the user rather than a defect of the program."""


class ConfigError(TwinnetError):
    """A key, type, value or combination in the configuration that cannot be trained."""


class DataError(TwinnetError):
    """Data that is missing, incomplete or not what it claims to be."""


class DeviceError(TwinnetError):
    """A device that was asked for and is not there."""


class DivergedError(TwinnetError):
    """A loss that became NaN or infinite; `history` holds what was recorded until then."""

    def __init__(self, message: str, history: object = None) -> None:
        super().__init__(message)
        self.history = history


class PrunedError(TwinnetError):
    """A training that a search stops, because others were better by then."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn a TwinnetError into one line on stderr and exit status 1; TWINNET_TRACEBACK=1 shows the traceback.

    Every command runs in it.
    """
    collect_rarely()
    logging.raiseExceptions = False  # a full disk under a log file is no traceback
    try:
        yield
    except TwinnetError as error:
        if os.environ.get("TWINNET_TRACEBACK"):
            raise
        print(f"error: {one_line_text(error)}", file=sys.stderr)
        sys.exit(1)


def one_line_text(error: BaseException) -> str:
    """Return the error in one line, with its type unless it is a message for the user."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TwinnetError) else f"{type(error).__name__}: {text}"
