"""What the tests of devices need of the machine: they are skipped where it is missing, with what to install."""

import shutil

import pytest


def need(found, sentence):
    """Skips a test unless what it needs was found."""
    if not found:
        pytest.skip(sentence)


def need_program(name, package):
    """Skips a test unless a program is there."""
    need(shutil.which(name), f"needs {name}: apt-get install {package}")
