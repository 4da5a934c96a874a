"""How Ctrl-C and SIGTERM end the program."""

import signal
import subprocess
import sys
import threading
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
lock = (ctypes.c_byte * 128)()
libc.pthread_mutex_lock(lock)
with signals.announcing("to resume: type this"):
    while True:
        try:
            print("ready", flush=True)
            libc.pthread_mutex_lock(lock)
        except KeyboardInterrupt:  # The signal came before the lock was waited for.
            pass
"""
FORKED = """
import os, signal, time
from keras_seq import signals
signals.end_on_signals()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    time.sleep(60)
print("ready", flush=True)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
time.sleep(0.2)
assert signals.exit_code() == 130, "SIGTERM was noticed here too"
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_that_is_stuck_in_native_code(number):
    with start(STUCK) as process:
        before = time.monotonic()
        process.send_signal(number)
        if number == signal.SIGTERM:
            assert process.stderr.readline() == b"\n"
            assert process.stderr.readline() == b"keras-seq: to resume: type this\n"
            assert time.monotonic() - before < signals.SECONDS_TO_FINISH
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - before < 10
    assert process.returncode == 128 + number
    assert f"keras-seq: ended {signals.SECONDS_TO_END} seconds after {number.name}" in errors.decode()


def test_a_signal_to_a_forked_process_does_not_end_the_process_that_forked_it():
    with start(FORKED) as process:
        assert process.wait(30) == 0


def test_a_process_that_is_not_the_program_is_not_ended():
    before = set(threading.enumerate())
    signals.end_soon(signal.SIGTERM)
    assert set(threading.enumerate()) <= before
    assert signals.exit_code() == 130


@pytest.mark.slow
def test_ctrl_c_leaves_the_time_to_a_handler_of_its_own():
    with start(HANDLED) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == b"handled\n"
