"""Runs the program with a fault at one of its writes: a signal, a full disk, or folders that cannot be written.

Each run is forked from a process that has imported everything but has run nothing, which saves the imports.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import stat
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FULL, READ_ONLY = "full disk", "read-only"
FAULTS = (*SIGNALS, FULL, READ_ONLY)
_PRELOADED = (
    *("keras_seq.cli.main", "keras_seq.cli.demo", "keras_seq.training.train", "keras_seq.training.plot_history"),
    *("keras_seq_export.tflite.export", "keras_seq_export.tflite.batch_jobs", "keras_seq_export.saved_model.export"),
)
_SECONDS = 120  # for a run of the program on a busy machine
_WRITING = os.O_WRONLY | os.O_RDWR


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        code: exit code; that of a shell after a signal.
        output: what was printed.
        writes: the writes of the program up to its end, such as `os.rename model.keras`.
        seconds: from the fault to the end.
    """

    code: int
    output: str
    writes: list[str]
    seconds: float


def run(folder: Path, arguments: list[str], fault: str | None = None, write: int = 0) -> Ended:
    """Runs `keras-seq` in a folder; the fault comes before the write with this index."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED])
    (printed, output), (noted, notes) = context.Pipe(), context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(output, notes, folder, arguments, fault, write))
    process.start()
    output.close()
    notes.close()
    found, writes, began = _read(printed, noted)
    process.join(_SECONDS)
    ended = time.time()
    if process.exitcode is None:
        process.kill()
    if fault == READ_ONLY:
        _set_writable(folder, True)
    code = process.exitcode if process.exitcode is None or process.exitcode >= 0 else 128 - process.exitcode
    return Ended(code, found, writes, ended - began)


def _read(printed: Connection, noted: Connection) -> tuple[str, list[str], float]:
    """Returns what a run prints until it ends, its writes, and when its fault began."""
    found, writes, began = b"", [], time.time()
    with contextlib.suppress(ConnectionResetError):
        while received := os.read(printed.fileno(), 1 << 16):
            found += received
    with contextlib.suppress(EOFError):
        while True:
            note = noted.recv()
            if isinstance(note, float):
                began = note
            else:
                writes.append(note)
    return found.decode(errors="replace"), writes, began


def _run(
    output: Connection, notes: Connection, folder: Path, arguments: list[str], fault: str | None, write: int
) -> None:
    """The forked process: prepares itself as a shell would, and runs the program."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    _give_up_the_rights_of_root()
    count = 0

    def watch(event: str, values: tuple) -> None:
        nonlocal count
        if not (name := _written(event, values, folder)):
            return
        number, count = count, count + 1
        if fault is not None and number == write:
            notes.send(time.time())
            _begin(fault, folder)
        notes.send(name)

    from keras_seq.models import probe

    probe.STEPS = 16  # as in the process of the tests; what is written does not depend on it
    sys.addaudithook(watch)
    sys.argv = ["keras-seq", *arguments]
    from keras_seq.cli.__main__ import run as run_program

    run_program()


def _written(event: str, values: tuple, folder: Path) -> str | None:
    """Returns the name of a write of the program in the folder; None for other events."""
    if event == "open":
        path, _, flags = values
        if not isinstance(path, str | bytes | os.PathLike) or not flags & _WRITING:
            return None
    elif event in ("os.rename", "os.mkdir", "os.remove"):
        path = values[0]
    else:
        return None
    if event == "os.rename":
        path = values[1]
    whole = Path(os.path.abspath(os.fsdecode(path)))
    inside = whole.is_relative_to(folder) and not whole.name.startswith(".partial-")
    return f"{event} {whole.name}" if inside else None


def _begin(fault: str, folder: Path) -> None:
    if fault == FULL:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    elif fault == READ_ONLY:
        _set_writable(folder, False)
    else:
        os.kill(os.getpid(), SIGNALS[fault])


def _set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IWUSR if writable else mode & ~0o222)


def _give_up_the_rights_of_root() -> None:
    """Lets the permissions of files count for root too, as they do for everyone else (Linux capabilities)."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())
