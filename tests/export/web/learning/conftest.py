"""The page of export/web with a small model that can learn."""

import pytest
from browser import DESKTOP, opened
from page_actions import wait_until_ready
from page_learning import turn_on
from sites import served_page


@pytest.fixture(scope="module")
def model(small_tflite):
    """A small model of characters that can learn."""
    return small_tflite(learn=True)


@pytest.fixture(scope="module")
def address(model, litert):
    """The address of the page with this model."""
    with served_page(model, litert) as address:
        yield address


@pytest.fixture
def page(address, chromium):
    """The page with this model on a desktop, without a text; what the user types is learned."""
    with opened(chromium, address, **DESKTOP) as page:
        wait_until_ready(page)
        turn_on(page)
        yield page
