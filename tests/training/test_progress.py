"""How Ctrl-C and SIGTERM end a run, without the program and with it."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from keras_seq import signals
from keras_seq.training.progress import EndWithEpoch


@pytest.fixture
def as_program():
    """This process handles SIGTERM as the program does, but is not ended."""
    before = signal.signal(signal.SIGTERM, signals.interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def test_ctrl_c_ends_the_run_after_its_epoch_and_a_second_one_at_once(capsys):
    before = signal.getsignal(signal.SIGINT)
    with EndWithEpoch(None, "type this") as ending:
        ending.on_epoch_end(0)
        signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again ends at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            ending.on_epoch_end(1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_the_run_after_its_epoch_where_the_program_handles_it(as_program):
    with EndWithEpoch(None, "type this") as ending:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            ending.on_epoch_end(0)
    assert signal.getsignal(signal.SIGTERM) is signals.interrupt


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, lambda *_: None])
def test_another_program_keeps_its_handler_of_sigterm(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with EndWithEpoch(None, "type this"):
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_changes_no_handler():
    before = signal.getsignal(signal.SIGINT)

    def enter():
        with contextlib.suppress(KeyboardInterrupt), EndWithEpoch(None, "type this") as ending:
            ending.on_epoch_end(0)
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


EPOCH = """
import sys, time
from keras_seq import signals
from keras_seq.training.progress import EndWithEpoch
signals.end_on_signals()
try:
    with EndWithEpoch(None, "type this") as ending:
        print("ready", flush=True)
        end = time.monotonic() + float(sys.argv[1])
        while time.monotonic() < end:
            time.sleep(0.05)
        print("saved", flush=True)
        ending.on_epoch_end(0)
except KeyboardInterrupt:
    sys.exit(signals.exit_code())
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 30])
def test_sigterm_leaves_an_epoch_the_time_to_be_saved_but_no_more(seconds):
    command = [sys.executable, "-c", EPOCH, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=10)
    assert process.returncode == 143
    assert printed == ("saved\n" if seconds == 2 else "")
    assert "this epoch is finished and saved, after 6 seconds at the latest; to resume: type this" in errors
