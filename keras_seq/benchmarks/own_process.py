"""Runs a function in a process of its own and measures its time and memory, those of its child processes included.

Besides the standard library, this module imports only `keras_seq.errors`, so that the process loads little more than the
function needs.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq.errors import ProcessEndedError

_POLL_SECONDS = 0.1


class Cost(NamedTuple):
    """The cost of a call.

    Attributes:
        seconds: wall-clock time, start of the process included.
        core_seconds: CPU time of all processes together.
        memory: largest memory of all processes together, in bytes. Shared memory counts once. 0 if there is no `/proc`.
    """

    seconds: float
    core_seconds: float
    memory: int


def measure(function: Callable[..., Any], *arguments: Any, **options: Any) -> Cost:
    """Calls a function in a new process and returns the cost of the call. The function's output is discarded.

    Args:
        function: a function of a module.
        *arguments: positional arguments of the function.
        **options: keyword arguments of the function.

    Raises:
        ProcessEndedError: the process ended before the function returned.
        Exception: any exception that the function raises.
    """
    spawn = multiprocessing.get_context("spawn")
    answer, end_of_process = spawn.Pipe(duplex=False)
    before, start, memory = os.times(), time.perf_counter(), 0
    process = spawn.Process(target=_call, args=(end_of_process, function, arguments, options))
    process.start()
    end_of_process.close()
    assert process.pid is not None
    while not answer.poll(_POLL_SECONDS):
        memory = max(memory, _memory(process.pid))
    try:
        error = answer.recv()
    except EOFError:
        raise ProcessEndedError(f"the process that was measured ended before {function.__name__} returned") from None
    finally:
        process.join()
    seconds, after = time.perf_counter() - start, os.times()
    if error is not None:
        raise error
    core_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(seconds, core_seconds, memory)


def _call(end: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What the process runs. It sends None, or the exception that was raised."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        function(*arguments, **options)
    except Exception as error:
        end.send(error)
    else:
        end.send(None)


def _memory(process: int) -> int:
    """Returns the bytes of a process and its descendants. Memory that several processes share is divided among them."""
    try:
        rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # The process has ended, or this is not Linux.
        return 0
    own = next((int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:")), 0)
    return own + sum(_memory(int(child)) for child in children)
