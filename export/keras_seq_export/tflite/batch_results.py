"""The file of JSON lines that a batch writes, and from which it resumes."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from keras_seq.files import explaining
from keras_seq.json_text import parse_json
from keras_seq.locks import exclusive
from keras_seq_export.errors import ResultsError

# A request, to which its result adds other names.
Request = dict[str, Any]


@contextlib.contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """Makes a file of results if it does not exist; no other batch writes it while the block runs.

    Raises:
        InUseError: another batch writes it.
        ResultsError: it is not a regular file, or cannot be made or read.
    """
    if output.exists() and not output.is_file():  # Opening a FIFO could wait forever.
        raise ResultsError(f"{output} must be a file of results, or a new file, but it is something else; name another")
    with explaining(output, ResultsError):
        os.close(os.open(output, os.O_RDONLY | os.O_CREAT, 0o666))
    with exclusive(output, "writes these results"):
        yield


def resume(
    output: Path, requests: Iterator[Request], answer: Mapping[str, Any], room: int
) -> tuple[int, int, Iterator[Request]]:
    """Compares a file of results with the requests, in order, and removes an incomplete last line.

    Args:
        output: the file, which may be empty.
        requests: what is asked for.
        answer: the names that a result adds to its request, and their types. A result may have `error` instead.
        room: the largest number of bytes that these take.

    Returns:
        The number of results, how many of them are errors, and the requests that have no result yet.

    Raises:
        ResultsError: a line is not the result of its request; the file is unchanged. Or it cannot be written.
    """
    complete = results = failed = 0
    with output.open("rb") as file:
        for request in requests:
            limit = len(to_line(request)) + room
            line = file.readline(limit)
            if not line.endswith(b"\n"):  # The end of the file, unless the line is too long.
                if len(line) == limit or not _could_become_result(line, request):
                    raise _another_job(output, results + 1)
                if line:
                    _cut(output, complete)
                return results, failed, itertools.chain([request], requests)
            result = _result(line, request, answer)
            if result is None:
                raise _another_job(output, results + 1)
            complete, results, failed = complete + len(line), results + 1, failed + ("error" in result)
        if file.read(1):
            raise _another_job(output, results + 1)
    return results, failed, requests


def _cut(output: Path, size: int) -> None:
    with explaining(output, ResultsError):
        os.truncate(output, size)


class ResultWriter:
    """Appends results to a file. The file has whole lines only, unless the process is killed in the middle of one.

    Args:
        output: an existing file.

    Raises:
        ResultsError: it cannot be opened.
    """

    def __init__(self, output: Path):
        self._output = output
        with explaining(output, ResultsError):
            self._file: FileIO = output.open("ab", buffering=0)  # A buffer could be written after an error.
        self._complete = self._file.tell()

    def write(self, result: Request) -> None:
        """Appends a result.

        Raises:
            ResultsError: it cannot be written. The file ends with the result before.
        """
        line = memoryview(to_line(result))
        left = line
        try:
            with explaining(self._output, ResultsError):
                while left:
                    left = left[self._file.write(left) :]
            self._complete += len(line)
        finally:
            if left:
                os.truncate(self._output, self._complete)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def to_line(result: Request) -> bytes:
    """Returns a line of the file."""
    try:
        return (json.dumps(result, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # A lone surrogate, which UTF-8 cannot encode.
        return (json.dumps(result) + "\n").encode("utf-8")


def _result(line: bytes, request: Request, answer: Mapping[str, Any]) -> Request | None:
    """Returns the result on a complete line; None if it is not one of this request."""
    try:
        result = parse_json(line)
    except ValueError:
        return None
    if not isinstance(result, dict) or not request.items() <= result.items():
        return None
    added = {name: value for name, value in result.items() if name not in request}
    expected = {"error": str} if "error" in added else answer
    matches = added.keys() == expected.keys() and all(isinstance(added[name], expected[name]) for name in expected)
    return result if matches else None


def _could_become_result(line: bytes, request: Request) -> bool:
    """Returns whether an incomplete line may be the beginning of the result."""
    beginning = to_line(request).rstrip(b"}\n")
    return line[: len(beginning)] == beginning[: len(line)]


def _another_job(output: Path, number: int) -> ResultsError:
    return ResultsError(
        f"line {number:,} of {output} is not a result of this model, input and options; choose another output, or "
        "remove the file"
    )
