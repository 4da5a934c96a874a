"""Files that are either complete or absent."""

import contextlib
import errno
import io
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

# Prefix of the folders that hold files while they are written; a killed process leaves one behind.
PARTIAL = ".partial-"


@contextlib.contextmanager
def publishing(*targets: Path, overwrite: bool = False) -> Iterator[tuple[Path, ...]]:
    """Yields a temporary path for each target to write to, and renames each to its target at the end.

    A reader never sees half a file. After an error the temporary files are removed and existing targets are unchanged.
    The folder of new targets is made, and removed after an error; the folder of targets to overwrite must exist.

    Args:
        *targets: files or directories in one folder. The first one decides; the others are replaced with it.
        overwrite: whether the first target may exist.

    Raises:
        FileExistsError: the first target exists.
        OSError: the folder cannot be written.
    """
    folder = targets[0].parent
    new_folders = [] if overwrite else missing_folders(folder)
    published, temporary = False, None
    try:
        if not overwrite:
            _refuse_existing(targets[0])
            folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{PARTIAL}{os.urandom(8).hex()}"
        temporary.mkdir()
        partials = tuple(temporary / target.name for target in targets)
        yield partials
        if not overwrite:  # Another process may have written it meanwhile.
            _refuse_existing(targets[0])
        for partial, target in zip(partials, targets, strict=True):
            _sync(partial)
            partial.replace(target)
        published = True
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if not published:
            remove_empty(new_folders)  # Another process may have written into the folder.


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to `target` at the end; see `publishing`."""
    with publishing(target, overwrite=True) as (partial,):
        yield partial


@contextlib.contextmanager
def temporary_folder(inside: Path | None = None) -> Iterator[Path]:
    """Yields a new folder, and removes it at the end as far as that is possible.

    `tempfile.TemporaryDirectory` of Python 3.11 ends in a RecursionError if the folder cannot be changed any more.

    Args:
        inside: the folder to make it in; None for that of temporary files.
    """
    import tempfile  # With what it imports, it would take 5 ms of each start of the program.

    folder = Path(tempfile.mkdtemp(dir=inside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_at_once(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Opens a file for reading; a pipe too, without waiting until something is written to it.

    Raises:
        OSError: it does not exist or cannot be opened.
    """
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # Windows has neither.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking))


def read_regular(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Returns the content of a file. Pipes and devices are refused, because reading them may never end.

    Args:
        path: the file.
        most: the largest size in bytes; None for any.

    Raises:
        OSError: it does not exist, cannot be read, is not a regular file, or is too large (EFBIG).
    """
    with open_at_once(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", os.fspath(path))
        content = file.read(-1 if most is None else most + 1) or b""  # None from files such as /proc/kmsg
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, f"It has more than {most:,} bytes", os.fspath(path))
    return content


def why_not_written(path: str | os.PathLike[str], error: OSError, then: str = "repeat the command") -> str:
    """Returns one sentence about a path that could not be written: the path, the reason and what to do.

    Args:
        path: the file or directory.
        error: what was raised.
        then: what to do when there is space again.

    Example:
        >>> why_not_written("runs/fox", OSError(errno.ENOSPC, "No space left on device"))
        'runs/fox cannot be written: No space left on device. Free some space there, then repeat the command'
    """
    reason = error.strerror or str(error)
    # Libraries such as HDF5 give the reason of the operating system only as text.
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in reason
    advice = f"Free some space there, then {then}" if is_full else "Check it, or choose another place"
    where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    return f"{path} cannot be written: {reason}{where}. {advice}"


@contextlib.contextmanager
def explaining(path: Path, error_class: type[Exception] = OSError, then: str = "repeat the command") -> Iterator[None]:
    """Raises an OSError of the block again as the sentence of `why_not_written`, in an error of another class.

    Example:
        >>> with explaining(Path("runs/fox"), ValueError):
        ...     raise OSError(errno.EROFS, "Read-only file system")
        Traceback (most recent call last):
        ValueError: runs/fox cannot be written: Read-only file system. Check it, or choose another place
    """
    try:
        yield
    except OSError as error:
        sentence = why_not_written(path, error, then)
        raise (OSError(error.errno, sentence) if error_class is OSError else error_class(sentence)) from error


def missing_folders(folder: Path) -> list[Path]:
    """Returns a folder and those around it that do not exist, from the innermost to the outermost."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, from the innermost to the outermost, up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove_partial(folder: Path) -> None:
    """Removes what interrupted writes left behind in a folder."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:  # Earlier code wrote partial files without a folder.
            leftover.unlink()


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise FileExistsError(f"{target} exists: choose another name, or remove it first")


def _sync(path: Path) -> None:
    """Writes a file, or every file of a directory, through to the disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
