"""Errors for the user, printed as one line: expected, received, remedy."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twinnet.core.garbage import collect_rarely

log = logging.getLogger(__name__)

# What a full disk, a missing permission or something else at a path raises: the user's to mend, in any command.
FILE_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
}


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
    """Turn a TwinnetError, or one of FILE_ERRORS, into one line on stderr and exit status 1.

    Every command runs in it; TWINNET_TRACEBACK=1 shows the traceback.
    """
    collect_rarely()
    logging.raiseExceptions = False  # a full disk under a log file is no traceback
    try:
        yield
    except (TwinnetError, OSError) as error:
        message = one_line_text(error)
        if isinstance(error, OSError):
            if error.errno not in FILE_ERRORS:
                raise
            message = f"expected to read or write {error.filename or 'a file'}; received: {error.strerror}"
        if os.environ.get("TWINNET_TRACEBACK"):
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def platform_errors() -> Iterator[None]:
    """Raise a DeviceError if JAX does not start, as with a JAX_PLATFORMS that is not there."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: expected a platform that JAX finds here; "
            f"received {' '.join(str(error).split()) or 'none'}; unset it"
        ) from error


def one_line_text(error: BaseException) -> str:
    """Return the error in one line, with its type unless it is a message for the user."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TwinnetError) else f"{type(error).__name__}: {text}"
