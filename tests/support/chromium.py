"""Pages of export/web in Chromium, with LiteRT.js from the npm registry."""

import contextlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

from devices import need, need_program

from keras_seq_export.tflite.page_server import page_folder

CHROMIUM = "/usr/bin/chromium"
# Without these it contacts servers of its vendor.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}


def installed_modules(folder):
    """Returns a `node_modules` with LiteRT.js, and axe, which checks accessibility."""
    need_program("npm", "npm")
    shutil.copy(page_folder() / "package.json", folder)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"needs LiteRT.js from the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"


@contextlib.contextmanager
def running_chromium():
    """Runs Chromium; yields the browser of Playwright."""
    need(Path(CHROMIUM).is_file(), "needs Chromium: apt-get install chromium")
    need(importlib.util.find_spec("playwright"), "needs Playwright: pip install playwright")
    from playwright import sync_api

    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, **screen):
    """Opens a page; requires that it requests only its own host and raises no error."""
    context = browser.new_context(**(screen or PHONE))
    page = context.new_page()
    foreign, errors = [], []
    origin = "/".join(address.split("/")[:3]) + "/"
    context.on("request", lambda request: request.url.startswith(origin) or foreign.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(address)
    try:
        yield page
    finally:
        context.close()
    assert (foreign, errors) == ([], [])


def violations(page, modules):
    """Returns what axe reports about a page, whose content security policy must be bypassed."""
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=modules / "axe-core" / "axe.min.js")
    return page.evaluate("() => axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))")
