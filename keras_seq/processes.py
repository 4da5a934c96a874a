"""Runs functions in several processes. The processes do not load TensorFlow unless the functions do."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_seq import require
from keras_seq.errors import ProcessEndedError


class ProcessPool:
    """Processes that are ready to work.

    Args:
        executor: the executor with the processes.
        ahead: number of items that may be in progress or finished before their turn.
    """

    def __init__(self, executor: concurrent.futures.Executor, ahead: int):
        self._executor, self._ahead = executor, ahead

    def in_order(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Calls a function on each item, in parallel; yields each item and its result in the order of the items.

        Only a few items are taken ahead, so the items can be a generator over data larger than memory.

        Raises:
            ProcessEndedError: a process was ended from outside.
        """
        waiting: collections.deque[tuple[Any, concurrent.futures.Future[Any]]] = collections.deque()
        try:
            for item in items:
                waiting.append((item, self._executor.submit(function, item)))
                if len(waiting) > self._ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise ProcessEndedError(
                "a worker process was ended from outside, perhaps because memory ran out; "
                "repeat the same command to continue"
            ) from error


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def process_pool(
    processes: int | None, prepare: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPool]:
    """Starts processes. They end when this process ends, even if it is killed; they ignore Ctrl-C.

    Args:
        processes: number of processes; None for one per core.
        prepare: a function that each process calls first.
        *arguments: its arguments.

    Raises:
        ArgumentError: `processes` is not a positive integer.
    """
    count = cores() if processes is None else processes
    require.positive_integer("processes", count)
    # Not forked: a forked process would inherit the locks that TensorFlow's threads hold.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, spawn, _start, (prepare, arguments)) as executor:
        with _ctrl_c_ignored():  # New processes inherit this until they ignore it themselves.
            concurrent.futures.wait([executor.submit(_nothing) for _ in range(count)])
        yield ProcessPool(executor, 2 * count)


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Only the main thread may set signal handlers.
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing() -> None:
    pass


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
