"""Requirements of the tests of devices: a test is skipped with what to install if the machine lacks something."""

import shutil

import pytest


def need(found, sentence):
    """Skips the test with a sentence unless its requirement was found."""
    if not found:
        pytest.skip(sentence)


def need_program(name, package):
    """Skips the test unless a program is installed."""
    need(shutil.which(name), f"needs {name}: apt-get install {package}")
