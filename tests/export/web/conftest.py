"""What the tests of the page and of the package use: LiteRT.js from the npm registry, Chromium, and the page open there."""

import shutil

import pytest
from browser import opened, running_chromium
from npm import npm_install
from npm_app import install_app
from page_actions import wait_until_ready
from sites import served_page

from keras_seq_export.tflite.page_files import page_folder


@pytest.fixture(scope="session")
def litert(made_once):
    """The `node_modules` with LiteRT.js, and axe, which checks accessibility."""

    def install(folder):
        shutil.copy(page_folder() / "package.json", folder)
        return npm_install(folder, "axe-core@4")

    return made_once("npm", install)


@pytest.fixture(scope="session")
def app(made_once):
    """The folder of an app that has installed the package."""
    return made_once("npm_app", install_app)


@pytest.fixture(scope="module")
def chromium():
    """A running browser."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def model(small_tflite):
    """A small model of characters."""
    return small_tflite()


@pytest.fixture
def page(model, litert, chromium):
    """The page, open on a phone with the small model."""
    with served_page(model, litert) as address, opened(chromium, address) as page:
        wait_until_ready(page)
        yield page
