"""What the tests of devices need of the machine. With KERAS_SEQ_DEVICES set, as .ci/run has it, nothing may be skipped."""

import os
import shutil

import pytest


def need(found, sentence):
    """Skips a test, or fails it where devices must be there, with what to install."""
    if not found:
        (pytest.fail if os.environ.get("KERAS_SEQ_DEVICES") else pytest.skip)(sentence)


def need_program(name, package):
    need(shutil.which(name), f"needs {name}: apt-get install {package}")
