"""Ends the program on Ctrl-C and SIGTERM, also while native code runs.

Python handles a signal only when its main thread runs Python code. A thread therefore watches for signals as well. It
ends the process if the main thread has not done so in time.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator

SECONDS_TO_FINISH = 6  # after SIGTERM, until KeyboardInterrupt is raised again
SECONDS_TO_END = 8  # until the process is ended without it; containers are killed after ten

_first: int | None = None  # the first signal that asked this process to end
_has_first = threading.Lock()  # Held from then on: the main thread and the one that watches may see it at once.
_is_program = False  # whether this process is the program, not one that only imports keras_seq
_notice: str | None = None  # what the first SIGTERM prints


def end_on_signals() -> None:
    """Makes SIGTERM raise KeyboardInterrupt, as Ctrl-C does, and bounds the time until the process has ended.

    The process ends within `SECONDS_TO_END` of SIGTERM in any case. It ends within this time of Ctrl-C too, unless a
    handler of its own is set for SIGINT, which may then call `end_soon`. Must be called in the main thread.
    """
    global _is_program
    _is_program = True
    reader, writer = os.pipe()
    if hasattr(os, "set_blocking"):  # Windows has it from Python 3.12 on, and does not ask for it.
        os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, interrupt)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # Otherwise a signal to a forked process would end this one too.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def interrupt(number: int, frame: types.FrameType | None) -> None:
    """The handler of SIGTERM: raises KeyboardInterrupt."""
    end_soon(number)
    raise KeyboardInterrupt


def end_soon(number: int = signal.SIGINT) -> None:
    """Ends the program after `SECONDS_TO_END` at the latest. After `SECONDS_TO_FINISH` it raises KeyboardInterrupt.

    In a process that did not call `end_on_signals`, nothing happens.
    """
    global _first
    if _is_program and _has_first.acquire(blocking=False):
        _first = number
        sys.unraisablehook = lambda _: None  # KeyboardInterrupt may be raised where Python can only print it.
        if _notice is not None and number == signal.SIGTERM:
            _print(_notice)
        threading.Thread(target=_end, args=(number,), daemon=True).start()


@contextlib.contextmanager
def announcing(notice: str) -> Iterator[None]:
    """While the block runs, the first SIGTERM prints `notice` at once, also while native code runs."""
    global _notice
    _notice, before = notice, _notice
    try:
        yield
    finally:
        _notice = before


def exit_code() -> int:
    """Returns the exit code of a process that was interrupted: 128 and the number of the signal, as shells have it."""
    return 128 + (_first or signal.SIGINT)


def say_interrupted() -> int:
    """Says that the program was interrupted; returns its exit code."""
    _print("interrupted")
    return exit_code()


def leave(code: int) -> None:
    """Ends the program at once if a signal asked it to end; otherwise Python ends it.

    Python stops the thread that watches before it takes the libraries down, and TensorFlow may take seconds for that.
    """
    if _first is not None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)


def _watch(reader: int) -> None:
    """Reads the number of each signal, which Python's own handler writes at once."""
    while numbers := os.read(reader, 64):
        for number in numbers:
            has_default_handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if number == signal.SIGTERM or (number == signal.SIGINT and has_default_handler):
                end_soon(number)


def _end(number: int) -> None:
    time.sleep(SECONDS_TO_FINISH)
    signal.raise_signal(signal.SIGINT)  # Handled in the main thread.
    time.sleep(SECONDS_TO_END - SECONDS_TO_FINISH)
    _print(f"ended {SECONDS_TO_END} seconds after {signal.Signals(number).name}")
    os._exit(128 + number)


def _print(sentence: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # Nobody reads stderr, or there is none.
        print(f"\nkeras-seq: {sentence}", file=sys.stderr, flush=True)
