"""Fetch one file from an address or a folder: with retries, within a deadline, and with a cache of accepted files."""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from twinnet.core import paths, provenance
from twinnet.core.schema import Transport
from twinnet.data.download.sources import RemoteFile

log = logging.getLogger(__name__)

CHUNK = 1 << 16
RETRIED = (429, 500, 502, 503, 504)
FROM_PROXY = (403, 407, *RETRIED)  # what a proxy answers in place of a host that it does not reach


class SourceError(Exception):
    """Why a source did not give a file.

    `answered` is whether a host, or a folder that the user named, answered at all. `retry_after` is after how many
    seconds a further request may succeed; None if none will.
    """

    def __init__(self, reason: str, *, answered: bool, retry_after: float | None = None) -> None:
        super().__init__(" ".join(reason.split()))
        self.answered, self.retry_after = answered, retry_after


class CacheEntry:
    """The accepted file of one address (and pinned hash), in a file named by their hash and by its own SHA-256."""

    def __init__(self, cache: Path, remote: RemoteFile) -> None:
        key = hashlib.sha256(f"{remote.address} {remote.pin}".encode()).hexdigest()[:16]  # an address may hold a secret
        self.cache, self.key = cache, key

    def copy_to(self, target: Path) -> bool:
        """Copy the accepted file to `target`; False if there is none, or if it is damaged."""
        for file in self.cache.glob(f"{self.key}-*"):
            if file.name == f"{self.key}-{provenance.sha256(file)}":
                shutil.copyfile(file, target)
                return True
        return False

    def accept(self, file: Path) -> None:
        name = f"{self.key}-{provenance.sha256(file)}"
        for older in self.cache.glob(f"{self.key}-*"):
            older.unlink(missing_ok=True)
        with paths.atomic_write(self.cache / name) as copy, file.open("rb") as content:
            shutil.copyfileobj(content, copy)


class Client:
    """Fetches the files of one data set, with the accepted files of earlier downloads in `cache`."""

    def __init__(self, settings: Transport, cache: Path) -> None:
        self.settings, self.cache = settings, cache

    def fetch(self, remote: RemoteFile, target: Path, most: int) -> None:
        """Write the file at `remote.address`, of at most `most` bytes, to `target`.

        An accepted file in the cache serves if its hash is pinned, or if no host answers (logged). Raises SourceError.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if not remote.is_web:
            return _copy(Path(remote.address), remote, target, most)
        entry = CacheEntry(self.cache, remote)
        if remote.pin and entry.copy_to(target):
            return None
        deadline = time.monotonic() + self.settings.total_timeout
        try:
            _within(self.settings.total_timeout, lambda: self._get(remote, target, most, deadline))
        except SourceError as error:
            if error.answered or not entry.copy_to(target):
                target.unlink(missing_ok=True)
                raise
            log.warning("%s: %s; the copy of an earlier download serves", remote.name, error)
        return None

    def accept(self, remote: RemoteFile, file: Path) -> None:
        """Cache a file that was verified, for the next download."""
        if remote.is_web:
            CacheEntry(self.cache, remote).accept(file)

    def _get(self, remote: RemoteFile, target: Path, most: int, deadline: float) -> None:
        s = self.settings
        with requests.Session() as session:
            session.max_redirects = s.max_redirects
            for attempt in range(s.retries + 1):
                _check_deadline(deadline)
                try:
                    with _rate_limited(remote):
                        return self._request(session, remote, target, most, deadline)
                except SourceError as error:
                    wait = error.retry_after
                    # A host that is silent twice is not there: the next source is asked.
                    last = attempt == s.retries or (attempt == 1 and not error.answered)
                    if last or wait is None or wait > s.patience:
                        raise
                    log.info("%s: %s; trying again", remote.name, error)
                    time.sleep(max(wait, s.backoff * 2 ** (attempt - 1) if attempt else 0.0))
        return None

    def _request(self, session: requests.Session, remote: RemoteFile, target: Path, most: int, deadline: float) -> None:
        # A file without a pinned hash is requested in gzip, whose checksum shows a flipped bit.
        encoding = "identity" if remote.pin else "gzip"
        headers = {"User-Agent": self.settings.user_agent, "Accept-Encoding": encoding, **remote.headers}
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        try:
            response = session.get(remote.address, headers=headers, timeout=timeout, stream=True)
        except requests.RequestException as error:
            raise _connection_error(error) from error
        with response:
            if response.status_code != 200:
                raise _http_error(response)
            _save(response, remote, target, most, deadline)


def _save(response: requests.Response, remote: RemoteFile, target: Path, most: int, deadline: float) -> None:
    """Write the body to `target`. Raises SourceError if it is too long, ends early or may have ended early."""
    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdigit() else None
    if (announced or 0) > most:
        raise SourceError(f"expected at most {most} bytes; the server announces {announced}", answered=True)
    if not (length or remote.pin or response.headers.get("Transfer-Encoding") == "chunked"):
        raise SourceError("the server does not say how long the answer is, so it may be cut", answered=True)
    _check_deadline(deadline)  # `_within` leaves this thread behind; the file may be another source's by now
    size = 0
    bar = tqdm(desc=remote.name, total=announced, unit="B", unit_scale=True, leave=False, disable=None)
    with target.open("wb") as file, bar:
        for chunk in _chunks(response):
            size += len(chunk)
            _check_deadline(deadline)
            if size > most:
                raise SourceError(f"expected at most {most} bytes; there are more", answered=True)
            file.write(chunk)
            bar.update(len(chunk))


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SourceError("no whole answer in time", answered=True)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    size = 0
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            size += len(chunk)
            yield chunk
    except (HTTPError, OSError) as error:
        reason = f"broke off after {size} bytes ({type(error).__name__})"
        raise SourceError(reason, answered=True, retry_after=0.0) from error


_last_request: dict[str, float] = {}  # host -> end of this process's last request to it, time.monotonic()


@contextmanager
def _rate_limited(remote: RemoteFile) -> Iterator[None]:
    """Start at least `interval` seconds after the last request to this host."""
    host = str(urlsplit(remote.address).hostname)
    time.sleep(max(0.0, _last_request.get(host, -remote.interval) + remote.interval - time.monotonic()))
    try:
        yield
    finally:
        _last_request[host] = time.monotonic()


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do `work` in a thread and wait for it at most `seconds`: name servers and slow headers know no timeout."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise SourceError(f"no whole answer within {seconds:g} s", answered=True)
    if raised:
        raise raised[0]


def _copy(path: Path, remote: RemoteFile, target: Path, most: int) -> None:
    """Copy from a folder that the user named: a missing file is an answer."""
    if not path.is_file():
        raise SourceError(f"no file {remote.recorded}", answered=True)
    if path.stat().st_size > most:
        raise SourceError(f"{remote.recorded}: expected at most {most} bytes", answered=True)
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise SourceError(f"{remote.recorded}: {error.strerror}", answered=True) from error


def _http_error(response: requests.Response) -> SourceError:
    proxied = bool(select_proxy(response.url, get_environ_proxies(response.url)))
    wait = response.headers.get("Retry-After")
    reason = f"{response.status_code} {response.reason}"
    reason += f", Retry-After: {wait}" if wait else ""
    reason += " (through a proxy)" if proxied else ""
    answered = not (proxied and response.status_code in FROM_PROXY)
    if response.status_code not in RETRIED:
        return SourceError(reason, answered=answered)
    try:
        seconds = Retry().parse_retry_after(wait) if wait else 0.0  # a number of seconds, or a date
    except HTTPError:
        seconds = 0.0
    return SourceError(reason, answered=answered, retry_after=seconds)


# What the text of an exception of requests holds -> a few words for the user, and whether a host answered. The text
# itself carries addresses and the names of objects.
REASONS = (
    ("resolve", "its name does not resolve", False),
    ("Connection refused", "connection refused", False),
    ("Connection reset", "connection reset", False),
    ("ConnectTimeout", "no connection in time", False),
    ("timed out", "no answer in time", False),
    ("without response", "closed the connection without an answer", False),
    ("BadStatusLine", "the answer is not http", True),
    ("redirects", "redirected in a loop", True),
    ("No connection adapters", "redirected to an address that is not http", True),
    ("CERTIFICATE", "its certificate is not trusted", True),
)


def _connection_error(error: requests.RequestException) -> SourceError:
    text = f"{type(error).__name__} {error}"
    for sign, reason, answered in REASONS:
        if sign in text:
            return SourceError(reason, answered=answered, retry_after=None if answered else 0.0)
    silent = isinstance(error, requests.ConnectionError)
    return SourceError(type(error).__name__, answered=not silent, retry_after=0.0 if silent else None)
