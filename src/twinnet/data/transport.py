"""Getting one file from an address: with retries, resumed where it broke off, never longer than a limit."""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from tqdm import tqdm
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError
from urllib3.util import Retry

from twinnet.config.schema import Transport
from twinnet.data.sources import Remote

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

    def increment(self, method: Any = None, url: Any = None, response: Any = None, *args: Any, **kwargs: Any) -> Retry:
        wait = self.get_retry_after(response) if response is not None else None
        if wait is not None and wait > self.patience:
            raise MaxRetryError(None, url, ResponseError(f"{response.status}, to be asked again in {wait:.0f} s"))  # type: ignore[arg-type]  # the pool is only named
        return super().increment(method, url, response, *args, **kwargs)


class Client:
    """Fetches files; `cache` keeps what is partial and, once accepted, what a server may say has not changed."""

    def __init__(self, settings: Transport, cache: Path) -> None:
        self.settings = settings
        self.cache = cache
        self.cache.mkdir(parents=True, exist_ok=True)

    def fetch(self, remote: Remote, target: Path, most: int) -> None:
        """Write the file at `remote.address` to `target`; raises SourceError, leaving no `target`, where it fails."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not remote.address.startswith(("http://", "https://")):
            return _copy(Path(remote.address).expanduser(), remote, target, most)
        part = self.cache / f"{_key(remote)}.part"
        _within(self.settings.total_timeout, lambda stopped: self._get(remote, part, most, stopped))
        shutil.move(part, target)

    def _get(self, remote: Remote, part: Path, most: int, stopped: threading.Event) -> None:
        reason = ""
        with requests.Session() as session:
            session.max_redirects = self.settings.max_redirects
            adapter = HTTPAdapter(max_retries=self._retry(remote))
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            for _ in range(self.settings.retries + 1):
                try:
                    return self._stream(session, remote, part, most, stopped)
                except BrokenOffError as error:
                    reason = str(error)
                except requests.RequestException as error:
                    raise SourceError(_reason(error), answered=_answered(error)) from error
        raise SourceError(reason, answered=True)

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
        self, session: requests.Session, remote: Remote, part: Path, most: int, stopped: threading.Event
    ) -> None:
        """One request and its body, appended to `part` where the server continues what is there."""
        headers = {"User-Agent": self.settings.user_agent, "Accept-Encoding": "identity", **remote.headers}
        start = part.stat().st_size if remote.pinned and part.exists() else 0
        if start:
            headers["Range"] = f"bytes={start}-"
        self._pause(remote)
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        with session.get(remote.address, headers=headers, timeout=timeout, stream=True) as response:
            if response.status_code == 416:
                part.unlink(missing_ok=True)
                raise BrokenOffError("the partial file does not fit the one offered")
            if response.status_code not in (200, 206):
                raise _refused(response)
            resumed = response.status_code == 206
            if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise BrokenOffError("another range than the one asked for")
            _save(response, part, start if resumed else 0, most, stopped, remote.name)

    def _pause(self, remote: Remote) -> None:
        """Wait until `interval` seconds have passed since the last request of any process to this source."""
        if not remote.interval:
            return
        clock = self.cache / "last_request"
        with FileLock(f"{clock}.lock"):
            last = clock.stat().st_mtime if clock.exists() else 0.0
            time.sleep(max(0.0, min(remote.interval, last + remote.interval - time.time())))
            clock.touch()


def _save(response: requests.Response, part: Path, start: int, most: int, stopped: threading.Event, name: str) -> None:
    """The body to `part` from byte `start` on, at most `most` bytes in all; raises BrokenOffError where it ends early."""
    decode = "Content-Encoding" in response.headers and not name.endswith(".gz")
    length = response.headers.get("Content-Length")
    expected = start + int(length) if length and length.isdigit() and not decode else None
    if (expected or 0) > most:
        raise SourceError(f"expected at most {most} bytes; the server announces {expected}", answered=True)
    size = start
    bar = tqdm(desc=name, total=expected, initial=start, unit="B", unit_scale=True, leave=False, disable=None)
    with part.open("ab" if start else "wb") as file, bar:
        try:
            while chunk := response.raw.read1(CHUNK, decode_content=decode):
                if stopped.is_set():
                    return
                size += len(chunk)
                if size > most:
                    raise SourceError(f"expected at most {most} bytes; there are more", answered=True)
                file.write(chunk)
                bar.update(len(chunk))
        except (HTTPError, OSError) as error:
            raise BrokenOffError(f"broke off after {size} bytes: {type(error).__name__}") from error
    if expected is not None and size != expected:
        raise BrokenOffError(f"expected {expected} bytes; received {size}")


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
    reason = f"{response.status_code} {response.reason}" + (" (through a proxy)" if proxied else "")
    return SourceError(reason, answered=not (proxied and response.status_code in FROM_PROXY))


def _answered(error: requests.RequestException) -> bool:
    return isinstance(
        error, requests.TooManyRedirects | requests.exceptions.RetryError | requests.exceptions.InvalidSchema
    )


def _reason(error: requests.RequestException) -> str:
    """A few words: what kind of failure, without the addresses and objects that the exception's text carries."""
    if isinstance(error, requests.TooManyRedirects):
        return "redirected in a loop"
    if isinstance(error, requests.exceptions.RetryError) and error.args:
        return str(getattr(error.args[0], "reason", error))
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    text = str(error)
    for sign, told in (("resolve", "its name does not resolve"), ("refused", "connection refused"), ("reset", "reset")):
        if sign in text.lower():
            return told
    return type(error).__name__


def _key(remote: Remote) -> str:
    return hashlib.sha256(remote.address.encode()).hexdigest()[:16]
