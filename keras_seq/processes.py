"""Work on several cores, in processes of Python that do not load TensorFlow."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from keras_seq.errors import ProcessEndedError


class ProcessPool:
    """Processes that are ready.

    Args:
        executor: which has them.
        ahead: how many items may be under way at a time.
    """

    def __init__(self, executor: concurrent.futures.Executor, ahead: int):
        self._executor, self._ahead = executor, ahead

    def in_order(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yields each item and what the function makes of it, in the order of the items; a few are under way at a time.

        Raises:
            ProcessEndedError: so it is.
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
                "all processes must stay to the end, but one was ended from outside, for want of memory perhaps; give the same "
                "command again to go on"
            ) from error


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def process_pool(
    count: int | None, prepare: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPool]:
    """Starts processes, which end with this one, whatever ends it; Ctrl-C is for this one alone.

    Args:
        count: how many; None for one a core.
        prepare: is called in each of them first.
        *arguments: with these.
    """
    count = cores() if count is None else count
    if count < 1:
        raise ValueError(f"the number of processes must be positive. Received: {count}")
    # Forked, they would have what TensorFlow's threads left of its locks.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(count, spawn, _start, (prepare, arguments)) as executor:
        with _ctrl_c_ignored():  # by those that start now, too
            concurrent.futures.wait([executor.submit(_nothing) for _ in range(count)])
        yield ProcessPool(executor, 2 * count)


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # No other may handle signals.
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
