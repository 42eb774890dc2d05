"""A page of Debian's Chromium, driven by Playwright; it reaches no other machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

WAIT = 120_000  # milliseconds; a page takes a few seconds, and more on a busy machine
# No request leaves the machine, and no sandbox where the tests run as root.
CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@contextmanager
def chromium_page() -> Iterator[Any]:
    """A new page; skip the test if Chromium or Playwright is not installed."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM, timeout=WAIT)
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(WAIT)
        yield page
        browser.close()
