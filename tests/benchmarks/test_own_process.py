import os
import sys
import time

import pytest

from keras_seq.benchmarks.own_process import measure
from keras_seq.errors import ProcessEndedError


def test_time_and_memory_are_measured():
    cost = measure(time.sleep, 0.5)
    assert cost.seconds >= 0.5
    assert cost.core_seconds > 0
    assert cost.memory > 2**20 or sys.platform != "linux"


def test_the_process_does_not_import_tensorflow():
    measure(exec, "import sys; assert 'tensorflow' not in sys.modules")


def test_an_error_of_the_function_is_raised():
    with pytest.raises(ValueError, match="invalid literal for int"):
        measure(int, "one")


def test_a_process_that_ends_early_is_reported():
    with pytest.raises(ProcessEndedError, match="ended before _exit returned"):
        measure(os._exit, 3)
