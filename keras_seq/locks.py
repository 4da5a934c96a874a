"""Locks that keep two processes from writing the same files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from keras_seq.errors import InUseError
from keras_seq.files import explaining, missing_folders, remove_empty

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive(path: Path, use: str) -> Iterator[None]:
    """Holds the only lock of a file or directory while the block runs.

    The operating system releases the lock when the process ends, even if it is killed. No file is left behind. Processes
    that do not ask for the lock are not hindered. Where the file system has no such locks, as NFS for directories, none is
    held.

    Args:
        path: an existing file or directory.
        use: what another process does with it, to be read after "another process", such as "trains this run".

    Raises:
        InUseError: another process, or another block of this process, holds the lock.
        OSError: the path does not exist or cannot be opened.
    """
    if fcntl is None:
        yield
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"{path} is in use: another process {use}. Wait until it ends, or name another") from None
        except OSError:  # Some network file systems cannot lock a path that is open for reading.
            pass
        yield
    finally:
        os.close(opened)


@contextlib.contextmanager
def exclusive_directory(directory: Path, use: str, error_class: type[Exception]) -> Iterator[None]:
    """Makes a directory unless it exists, and holds its only lock while the block runs.

    A directory that was made, and is still empty at the end, is removed.

    Args:
        directory: the directory.
        use: as for `exclusive`.
        error_class: what is raised if the directory cannot be made.

    Raises:
        InUseError: another process, or another block of this process, holds the lock.
    """
    new = missing_folders(directory)
    with explaining(directory, error_class):
        directory.mkdir(parents=True, exist_ok=True)
    with exclusive(directory, use):
        try:
            yield
        finally:
            remove_empty(new)
