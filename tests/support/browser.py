"""Chromium, driven by Playwright, and a page that is open there."""

import contextlib
import importlib.util
import time
from pathlib import Path

from devices import need

CHROMIUM = "/usr/bin/chromium"
# Without these it contacts servers of its vendor.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


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


@contextlib.contextmanager
def opened(browser, address, **screen):
    """Opens a page in a new profile; requires that it requests only what lies in its own folder and raises no error.

    Args:
        screen: options of the browser, by default those of a phone. Without `reduced_motion`, texts of the page appear at
            once, which saves time.
    """
    context = browser.new_context(**{"reduced_motion": "reduce", **(screen or PHONE)})
    page = context.new_page()
    foreign, errors = [], []
    folder = address.partition("#")[0].partition("?")[0].rpartition("/")[0] + "/"
    context.on("request", lambda request: request.url.startswith(folder) or foreign.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert (foreign, errors) == ([], [])


def wait_for(condition, seconds=60):
    """Waits until a function returns something true. The page forbids what Playwright's own `wait_for_function` does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def violations(page, modules):
    """Returns what axe reports about a page, whose content security policy must be bypassed."""
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=modules / "axe-core" / "axe.min.js")
    return page.evaluate("() => axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))")
