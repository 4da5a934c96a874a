"""Chromium for tests, driven by Playwright."""

import contextlib
import importlib.util
from pathlib import Path

from devices import need

CHROMIUM = "/usr/bin/chromium"
# Without these it contacts servers of its vendor.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def running_chromium():
    """Yields a browser; skips the test where there is none."""
    need(Path(CHROMIUM).is_file(), "needs Chromium: apt-get install chromium")
    need(importlib.util.find_spec("playwright"), "needs Playwright: pip install playwright")
    from playwright import sync_api

    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
