"""Runs functions in several processes. The processes do not load TensorFlow unless the functions do."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
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
    """Starts processes. They ignore Ctrl-C, and end when this process ends, even if it is killed.

    After an error or Ctrl-C in the block they end at once, in the middle of their work.

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
    closed_to_end, kept_open = spawn.Pipe(duplex=False)
    try:
        pool = concurrent.futures.ProcessPoolExecutor(count, spawn, _start, (closed_to_end, prepare, arguments))
    except OSError as error:  # Its locks need some shared memory.
        raise OSError(error.errno, f"worker processes cannot be started: {error.strerror}") from error
    with closed_to_end, kept_open, pool as executor:
        try:
            with _ctrl_c_later():  # New processes inherit this until they ignore it themselves.
                started = [executor.submit(_nothing) for _ in range(count)]
            concurrent.futures.wait(started)
            yield ProcessPool(executor, 2 * count)
        except BaseException:
            kept_open.close()  # The executor itself would wait until the work that was begun is done.
            raise


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Keeps Ctrl-C from this thread, and from processes that are started meanwhile, for as long as they run."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nothing() -> None:
    pass


def _start(closed_to_end: Connection, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(closed_to_end,), daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent(closed_to_end: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([closed_to_end, parent.sentinel])
    os._exit(1)
