"""Getting one file from an address: with retries, resumed where it broke off, never longer than a limit."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from tqdm import tqdm
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import Retry

from twinnet.core.schema import Transport
from twinnet.data.download.cache import VALIDATORS, Kept
from twinnet.data.download.sources import Remote

log = logging.getLogger(__name__)

CHUNK = 1 << 16
RETRIED = (429, 500, 502, 503, 504)
FROM_PROXY = (403, 407, *RETRIED)  # what a proxy answers in place of a host that it does not reach


class SourceError(Exception):
    """Why a source did not give a file; `answered` is whether a host (or a folder that was named) spoke at all."""

    def __init__(self, reason: str, *, answered: bool) -> None:
        super().__init__(" ".join(reason.split()))
        self.answered = answered


class BrokenOffError(Exception):
    """A body that ended early; what came is kept, so that the rest can be asked for."""


class PatientRetry(Retry):
    """urllib3's retries, with at least `interval` seconds between two, giving up where Retry-After asks too much."""

    interval: float = 0.0
    patience: float = 0.0

    def new(self, **kwargs: Any) -> "PatientRetry":
        other = super().new(**kwargs)
        other.interval, other.patience = self.interval, self.patience
        return other

    def get_backoff_time(self) -> float:
        return max(super().get_backoff_time(), self.interval)

    def increment(
        self, method: Any = None, url: Any = None, response: Any = None, *args: Any, **kwargs: Any
    ) -> "PatientRetry":
        wait = self.get_retry_after(response) if response is not None else None
        if wait is not None and wait > self.patience:
            raise MaxRetryError(kwargs["_pool"], url)
        if response is not None:
            log.info("answered %s, asking again", response.status)
        return super().increment(method, url, response, *args, **kwargs)


class Client:
    """Fetches the files of one data set; what `cache` keeps of earlier downloads is continued, or asked about."""

    def __init__(self, settings: Transport, cache: Path) -> None:
        self.settings = settings
        self.cache = cache
        self.resumed: set[str] = set()  # names of the files that were put together from more than one answer
        self._validators: dict[str, dict[str, str]] = {}  # address -> what came with its answer

    def fetch(self, remote: Remote, target: Path, most: int) -> None:
        """Write the file at `remote.address` to `target`; raises SourceError, leaving no `target`, where it fails.

        Where no host answers, the file that was accepted from this address before serves, and the log says so.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if not remote.is_web:
            return _copy(Path(remote.address).expanduser(), remote, target, most)
        kept = Kept(self.cache, remote.address)
        try:
            _within(self.settings.total_timeout, lambda stopped: self._get(remote, kept, most, stopped))
        except SourceError as error:
            if not remote.pinned:
                kept.part.unlink(missing_ok=True)
            if error.answered or kept.body is None:
                raise
            log.warning("%s: %s; the copy of an earlier download serves", remote.name, error)
            shutil.copyfile(kept.body, kept.part)
        shutil.move(kept.part, target)

    def keep(self, remotes: Sequence[Remote], folder: Path) -> None:
        """Keep files that were accepted, for the next download."""
        for remote in remotes:
            if remote.is_web:
                validators = self._validators.get(remote.address, {})
                Kept(self.cache, remote.address).keep(folder / remote.name, validators)

    def forget(self, remotes: Sequence[Remote]) -> None:
        """Drop what is kept of files that were rejected, so that they are asked for anew."""
        for remote in remotes:
            Kept(self.cache, remote.address).forget()

    def _get(self, remote: Remote, kept: Kept, most: int, stopped: threading.Event) -> None:
        reason = ""
        with requests.Session() as session:
            session.max_redirects = self.settings.max_redirects
            adapter = HTTPAdapter(max_retries=self._retry(remote))
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            for _ in range(self.settings.retries + 1):
                try:
                    return self._stream(session, remote, kept, most, stopped)
                except BrokenOffError as error:
                    reason = str(error)
                except requests.RequestException as error:
                    raise _explained(error) from error
        raise SourceError(reason, answered=True)  # every answer began, and none came to its end

    def _retry(self, remote: Remote) -> PatientRetry:
        s = self.settings
        retry = PatientRetry(
            total=s.retries,
            connect=min(1, s.retries),
            read=min(1, s.retries),
            status_forcelist=RETRIED,
            backoff_factor=s.backoff,
            raise_on_status=False,
            retry_after_max=int(s.total_timeout) + 86_400,
        )
        retry.interval, retry.patience = remote.interval, s.patience
        return retry

    def _stream(
        self, session: requests.Session, remote: Remote, kept: Kept, most: int, stopped: threading.Event
    ) -> None:
        """One request and its body, appended to the partial file where the server continues what is there."""
        # Without a pinned hash nobody can tell whether the rest belongs to what is there.
        start = kept.part.stat().st_size if remote.pinned and kept.part.exists() else 0
        body = None if start else kept.body
        # What is not pinned is asked for in gzip: its checksum tells a bit that flipped on the way.
        encoding = "identity" if remote.pinned else "gzip"
        headers = {"User-Agent": self.settings.user_agent, "Accept-Encoding": encoding, **remote.headers}
        headers |= {"Range": f"bytes={start}-"} if start else {}
        headers |= kept.conditions if body else {}
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        with (
            self._paced(remote),
            session.get(remote.address, headers=headers, timeout=timeout, stream=True) as response,
        ):
            if response.status_code == 304 and body:
                shutil.copyfile(body, kept.part)
                return
            continued = response.status_code == 206 and start > 0
            elsewhere = continued and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if elsewhere or (response.status_code == 416 and start):
                kept.part.unlink(missing_ok=True)
                raise BrokenOffError("another range than the one asked for")
            if response.status_code != 200 and not continued:
                raise _refused(response)
            if continued:
                self.resumed.add(remote.name)
            given = {name: response.headers[name] for name in VALIDATORS.values() if name in response.headers}
            self._validators[remote.address] = given
            _save(response, kept.part, start if continued else 0, most, stopped, remote)

    @contextmanager
    def _paced(self, remote: Remote) -> Iterator[None]:
        """Begin `interval` seconds after the last request of any process to this host, and note when this one ends."""
        if not remote.interval:
            yield
            return
        clock = self.cache.parent / f"{urlsplit(remote.address).hostname}.last_request"
        with FileLock(f"{clock}.lock"):
            last = clock.stat().st_mtime if clock.exists() else 0.0
            time.sleep(max(0.0, min(remote.interval, last + remote.interval - time.time())))
            try:
                yield
            finally:
                clock.touch()


def _save(
    response: requests.Response, part: Path, start: int, most: int, stopped: threading.Event, remote: Remote
) -> None:
    """Append the body to the first `start` bytes of `part`, to `most` bytes in all.

    Raises BrokenOffError where the body ends early, SourceError where it is too long or may have ended anywhere.
    """
    encoded = "Content-Encoding" in response.headers and not remote.name.endswith(".gz")
    length = response.headers.get("Content-Length", "")
    expected = start + int(length) if length.isdigit() and not encoded else None
    if (expected or 0) > most:
        raise SourceError(f"expected at most {most} bytes; the server announces {expected}", answered=True)
    if not (length or remote.pinned or response.headers.get("Transfer-Encoding") == "chunked"):
        raise SourceError("the server does not say how long the answer is, so it may be cut", answered=True)
    size = start
    bar = tqdm(desc=remote.name, total=expected, initial=start, unit="B", unit_scale=True, leave=False, disable=None)
    with part.open("ab" if start else "wb") as file, bar:
        try:
            while chunk := response.raw.read1(CHUNK, decode_content=encoded):
                if stopped.is_set():
                    return
                size += len(chunk)
                if size > most:
                    part.unlink()
                    raise SourceError(f"expected at most {most} bytes; there are more", answered=True)
                file.write(chunk)
                bar.update(len(chunk))
        except (HTTPError, OSError) as error:
            raise BrokenOffError(f"broke off after {size} bytes ({type(error).__name__})") from error
    if expected is not None and size != expected:
        raise BrokenOffError(f"broke off after {size} of {expected} bytes")


def _copy(path: Path, remote: Remote, target: Path, most: int) -> None:
    """From a folder that the user named: what is missing there is an answer."""
    if not path.is_file():
        raise SourceError(f"no file {remote.recorded}", answered=True)
    if path.stat().st_size > most:
        raise SourceError(f"{remote.recorded}: expected at most {most} bytes", answered=True)
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise SourceError(f"{remote.recorded}: {error.strerror}", answered=True) from error


def _within(seconds: float, work: Callable[[threading.Event], None]) -> None:
    """Do `work` in a thread and wait for it at most `seconds`: no trickle and no name server can hold us longer."""
    stopped, raised = threading.Event(), []

    def run() -> None:
        try:
            work(stopped)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        stopped.set()
    if thread.is_alive():
        raise SourceError(f"no whole answer within {seconds:g} s", answered=True)
    if raised:
        raise raised[0]


def _refused(response: requests.Response) -> SourceError:
    proxied = bool(select_proxy(response.url, get_environ_proxies(response.url)))
    wait = response.headers.get("Retry-After")
    reason = f"{response.status_code} {response.reason}"
    reason += f", to be asked again: {wait}" if wait else ""
    reason += " (through a proxy)" if proxied else ""
    return SourceError(reason, answered=not (proxied and response.status_code in FROM_PROXY))


# What the text of an exception of requests holds -> a few words for the user, and whether a host spoke. The text
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


def _explained(error: requests.RequestException) -> SourceError:
    text = f"{type(error).__name__} {error}"
    for sign, reason, answered in REASONS:
        if sign in text:
            return SourceError(reason, answered=answered)
    return SourceError(type(error).__name__, answered=not isinstance(error, requests.ConnectionError))
