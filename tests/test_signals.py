"""How Ctrl-C and SIGTERM end the program."""

import signal
import subprocess
import sys
import time

import pytest

from keras_seq import signals

INTERRUPTED = """
import time
from keras_seq import signals
signals.end_on_signals()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(signals.exit_code())
"""
# A native call that keeps the main thread from running Python code. It is not interrupted, because ctypes tries again.
STUCK = """
import ctypes, time
from keras_seq import signals
signals.end_on_signals()
libc = ctypes.CDLL(None)
print("ready", flush=True)
end = time.monotonic() + 60
lock = (ctypes.c_byte * 128)()
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_lock(lock)
"""
HANDLED = """
import signal, time
from keras_seq import signals
signals.end_on_signals()
signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
print("ready", flush=True)
end = time.monotonic() + 9.5
while time.monotonic() < end:
    time.sleep(0.1)
"""


def start(code):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_python_code(number):
    with start(INTERRUPTED) as process:
        process.send_signal(number)
        assert process.wait(5) == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_that_is_stuck_in_native_code(number):
    with start(STUCK) as process:
        before = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - before < 10
    assert process.returncode == 128 + number
    assert f"keras-seq: ended {signals.SECONDS_TO_END} seconds after {number.name}" in errors.decode()


@pytest.mark.slow
def test_ctrl_c_leaves_the_time_to_a_handler_of_its_own():
    with start(HANDLED) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == b"handled\n"
