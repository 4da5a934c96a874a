"""What the tests of the page and of the package use: LiteRT.js from the npm registry, and Chromium."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from devices import need, need_program

from keras_seq_export.tflite.page_files import page_folder

CHROMIUM = "/usr/bin/chromium"
# Without these it contacts servers of its vendor.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def litert(tmp_path_factory):
    """The `node_modules` with LiteRT.js, and axe, which checks accessibility, from the npm registry."""
    need_program("npm", "npm")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(page_folder() / "package.json", folder)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"needs LiteRT.js from the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def chromium():
    """A running browser."""
    need(Path(CHROMIUM).is_file(), "needs Chromium: apt-get install chromium")
    need(importlib.util.find_spec("playwright"), "needs Playwright: pip install playwright")
    from playwright import sync_api

    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
