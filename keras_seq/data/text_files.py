"""The text of files: plain, compressed, records of a table, whole folders, standard input."""

import codecs
import csv
import functools
import glob
import gzip
import io
import itertools
import json
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from keras_seq.errors import CorpusError

Path = str | os.PathLike[str]

STANDARD_INPUT = "-"
_BLOCK = 2**20  # bytes read at once
_LONGEST_FIELD = 2**31 - 1  # of a table, in characters: the largest limit that csv takes on every system
_TABLES = ("csv", "tsv", "jsonl", "ndjson")
# A table's file, and the field of its records after a colon.
_WITH_FIELD = re.compile(rf"(.+\.(?:{'|'.join(_TABLES)})(?:\.gz)?):([^:/\\]+)", re.IGNORECASE)


def read_texts(source: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Yields the name and the text, in pieces, of each file that a source names; they are to be read one after the other.

    Args:
        source: a file; a folder, of which all files are read, those in folders inside it too, without hidden ones; a
            pattern such as `src/**/*.py`; or `-`, standard input. A file may be compressed by gzip. Of `.csv`, `.tsv`,
            `.jsonl` and `.ndjson` the texts of one field are read, a record a line: `news.csv:body`; without a name, that
            of the only field that holds text. Text is UTF-8, or UTF-16 with a byte order mark; the mark is dropped, and
            line ends stay as they are.

    Raises:
        CorpusError: a file is missing, unreadable, damaged, empty or not text; the message gives the file, and of a wrong
            byte the line and the place. What is wrong further on is found when the pieces there are read.
    """
    if source == STANDARD_INPUT:
        yield "stdin", _pieces("standard input", _blocks(sys.stdin.buffer), None)
        return
    paths, field = files_of(source)
    for path in paths:
        yield (
            pathlib.Path(path.name.removesuffix(".gz")).stem,
            _pieces(str(path), _file_blocks(path), _table_of(path, field)),
        )


def files_of(source: Path) -> tuple[list[pathlib.Path], str | None]:
    """Returns the files that a source names, in the order of their names, and the field of their tables, if it names one.

    Raises:
        CorpusError: a folder or pattern has no files.
    """
    name = os.fspath(source)
    if not os.path.exists(name) and (found := _WITH_FIELD.fullmatch(name)):
        return _files(found[1]), found[2]
    return _files(name), None


def joined(texts: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yields the pieces of texts one after the other, with a line feed after a text that does not end in a line's end."""
    last = "\n"
    for pieces in texts:
        if not last.endswith(("\n", "\r")):
            yield "\n"
        for piece in pieces:
            yield piece
            last = piece or last


def in_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts, each ended by a line feed."""
    return (text if text.endswith("\n") else text + "\n" for text in texts)


def _files(name: str) -> list[pathlib.Path]:
    path = pathlib.Path(name)
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file())
        found = [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]
        if not found:
            raise CorpusError(f"The corpus must be text files, but {name} is a folder without any; put some into it.")
        return found
    if not path.exists() and glob.has_magic(name):
        found = sorted(one for one in map(pathlib.Path, glob.glob(name, recursive=True)) if one.is_file())
        if not found:
            raise CorpusError(f"The corpus must be text files, but none is named like {name}; check the pattern.")
        return found
    return [path]


def _file_blocks(path: pathlib.Path) -> Iterator[bytes]:
    """Yields a file's content, unpacked; ends with a look whether it stayed the same meanwhile."""
    try:
        before = path.stat()
        with path.open("rb") as file:
            packed = file.peek(2).startswith(b"\x1f\x8b")
            yield from _unpacked(path, file) if packed else _blocks(file)
        after = path.stat()
    except FileNotFoundError:
        raise CorpusError(f"The corpus must be a text file, but {path} does not exist; check the path.") from None
    except OSError as error:
        raise CorpusError(
            f"The corpus must be a text file that can be read, but {path} cannot be: {error.strerror}; "
            "check the path and its permissions."
        ) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise CorpusError(f"The corpus must stay as it is, but {path} changed while it was read; wait, and try again.")


def _unpacked(path: pathlib.Path, file: IO[bytes]) -> Iterator[bytes]:
    try:
        yield from _blocks(io.BufferedReader(gzip.GzipFile(fileobj=file)))
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"The corpus must be whole, but {path} is damaged: {error}; fetch it again.") from None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(functools.partial(file.read, _BLOCK), b"")


def _table_of(path: pathlib.Path, field: str | None) -> tuple[str, str | None] | None:
    """Returns the kind of table that a file is, with the field to read; None of plain text."""
    suffixes = [suffix.lower().removeprefix(".") for suffix in path.suffixes]
    if suffixes[-1:] == ["gz"]:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return (kind, field) if kind in _TABLES else None


def _pieces(name: str, blocks: Iterable[bytes], table: tuple[str, str | None] | None) -> Iterator[str]:
    """Yields a file's text; refuses one without any."""
    pieces = _decoded(name, blocks)
    if table is not None:
        pieces = in_lines(_records(name, pieces, *table))
    held = "is empty"
    for piece in pieces:
        if held and piece:
            held = "" if piece.strip() else "holds nothing but white space"
        yield piece
    if held:
        raise CorpusError(f"The corpus must hold text, but {name} {held}; put the text to learn from into it.")


def _decoded(name: str, blocks: Iterable[bytes]) -> Iterator[str]:
    done, line, decoder = 0, 1, None
    for block in itertools.chain(blocks, [b""]):
        if decoder is None:
            encoding = _encoding(name, block)
            decoder = codecs.getincrementaldecoder(encoding)()
        waiting = len(decoder.getstate()[0])
        zero = block.find(b"\0") if encoding == "utf-8" else -1
        try:
            piece = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            if zero < 0 or error.start < waiting + zero:
                line += error.object[: error.start].decode(error.encoding, "ignore").count("\n")
                raise _damaged(name, line, done + error.start - waiting, error) from None
        if zero >= 0:
            line += block.count(b"\n", 0, zero)
            raise CorpusError(
                f"The corpus must be UTF-8 text, but {name} is binary: line {line}, "
                f"byte {done + zero} of the file is 0x00; name a text file (or convert UTF-16 without a mark: iconv -f UTF-16LE)."
            )
        yield piece if done or encoding != "utf-8" else piece.removeprefix("\ufeff")
        done, line = done + len(block), line + piece.count("\n")


def _encoding(name: str, begin: bytes) -> str:
    if begin.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise CorpusError(
            f"The corpus must be UTF-8 text, but {name} is UTF-32; convert it first (iconv -f UTF-32 -t UTF-8)."
        )
    return "utf-16" if begin.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"


def _damaged(name: str, line: int, place: int, error: UnicodeDecodeError) -> CorpusError:
    if error.encoding.startswith("utf-16"):
        return CorpusError(
            f"The corpus must be text, but {name} is damaged UTF-16: line {line}, byte {place} of the file; fetch it again."
        )
    return CorpusError(
        f"The corpus must be UTF-8 text, but {name} is not: line {line}, "
        f"byte {place} of the file is 0x{error.object[error.start]:02x}; "
        "convert it first (such as iconv -f WINDOWS-1252 -t UTF-8), or name a text file."
    )


def _records(name: str, pieces: Iterable[str], kind: str, field: str | None) -> Iterator[str]:
    """Yields the text of each record of a table."""
    lines = _lines(pieces)
    if kind in ("jsonl", "ndjson"):
        rows = _json_lines(name, lines)
    else:
        rows = _rows(name, lines, "\t" if kind == "tsv" else ",")
    for number, row in rows:
        if field is None:
            field = _only_text(name, row)
        value = row.get(field)
        if not isinstance(value, str):
            raise CorpusError(
                f"The corpus must have text in the field {field}, but line {number} of {name} has "
                f"{'none' if field not in row else type(value).__name__}; its fields are {', '.join(row)}."
            )
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON's escapes can write one.
            raise CorpusError(
                f"The corpus must be text, but line {number} of {name} has the lone surrogate U+{ord(value[error.start]):04X}, "
                "which is no character; take it out."
            ) from None
        yield value


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    begun: list[str] = []  # pieces of a line whose end is still to come
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        for line in others:
            yield "".join(begun) + "\n"
            begun = [line]
    if any(begun):
        yield "".join(begun)


def _json_lines(name: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                f"The corpus must be JSON in each line, but line {number} of {name} is not: {error}."
            ) from None
        if not isinstance(row, dict):
            raise CorpusError(
                f"The corpus must be a JSON object in each line, but line {number} of {name} is a {type(row).__name__}."
            )
        yield number, row


def _rows(name: str, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        limit = csv.field_size_limit(_LONGEST_FIELD)  # of the whole process: it is put back
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CorpusError(
                f"The corpus must be a table, but line {reader.line_num} of {name} is damaged: {error}."
            ) from None
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        if header is not None and row:
            yield reader.line_num, dict(zip(header, row, strict=False))
        header = header or row


def _only_text(name: str, row: dict[str, object]) -> str:
    fields = [key for key, value in row.items() if isinstance(value, str)]
    if len(fields) != 1:
        example = f"{name}:{fields[0] if fields else 'text'}"
        raise CorpusError(
            f"The corpus must be one field of {name}: name it, such as {example}; it has {', '.join(row)}."
        )
    return fields[0]
