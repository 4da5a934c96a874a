"""The text of files: plain, compressed, records of a table, whole folders, standard input."""

import csv
import glob
import gzip
import io
import json
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Iterable, Iterator

Path = str | os.PathLike[str]

STANDARD_INPUT = "-"
_TABLES = ("csv", "tsv", "jsonl", "ndjson")
# A table's file, and the field of its records after a colon.
_WITH_FIELD = re.compile(rf"(.+\.(?:{'|'.join(_TABLES)})(?:\.gz)?):([^:/\\]+)", re.IGNORECASE)


class CorpusError(ValueError):
    """A text file that cannot be learned from: the message says what was expected, what came and what to do."""


def read_texts(source: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each file that a source names.

    Args:
        source: a file; a folder, of which all files are read, those in folders inside it too, without hidden ones; a
            pattern such as `src/**/*.py`; or `-`, standard input. A file may be compressed by gzip. Of `.csv`, `.tsv`,
            `.jsonl` and `.ndjson` the texts of one field are read, a record a line: `news.csv:body`; without a name, that
            of the only field that holds text. Text is UTF-8, or UTF-16 with a byte order mark; the mark is dropped, and
            line ends stay as they are.

    Raises:
        CorpusError: a file is missing, unreadable, damaged, empty or not text; the message gives the file, and of a wrong
            byte the line and the place.
    """
    if source == STANDARD_INPUT:
        yield "stdin", _text("standard input", sys.stdin.buffer.read(), None)
        return
    name = os.fspath(source)
    field = None
    if not os.path.exists(name) and (found := _WITH_FIELD.fullmatch(name)):
        name, field = found.groups()
    for path in _files(name):
        yield pathlib.Path(path.name.removesuffix(".gz")).stem, _text(str(path), _bytes(path), _table_of(path, field))


def in_lines(texts: Iterable[str]) -> str:
    """Returns texts one after the other, each ended by a line feed."""
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts)


def _files(name: str) -> list[pathlib.Path]:
    """Returns the files that a name stands for, in the order of their names."""
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


def _bytes(path: pathlib.Path) -> bytes:
    """Returns a file's content, unpacked, after a look whether it stayed the same meanwhile."""
    try:
        before = path.stat()
        data = path.read_bytes()
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
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"The corpus must be whole, but {path} is damaged: {error}; fetch it again.") from None


def _table_of(path: pathlib.Path, field: str | None) -> tuple[str, str | None] | None:
    """Returns the kind of table that a file is, with the field to read; None of plain text."""
    suffixes = [suffix.lower().removeprefix(".") for suffix in path.suffixes]
    if suffixes[-1:] == ["gz"]:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return (kind, field) if kind in _TABLES else None


def _text(name: str, data: bytes, table: tuple[str, str | None] | None) -> str:
    text = _decode(name, data)
    if table is not None:
        text = in_lines(_records(name, text, *table))
    if not text.strip():
        what = "holds nothing but white space" if text else "is empty"
        raise CorpusError(f"The corpus must hold text, but {name} {what}; put the text to learn from into it.")
    return text


def _decode(name: str, data: bytes) -> str:
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise CorpusError(
            f"The corpus must be UTF-8 text, but {name} is UTF-32; convert it first (iconv -f UTF-32 -t UTF-8)."
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-16", "ignore")
            raise CorpusError(
                f"The corpus must be text, but {name} is damaged UTF-16: line {before.count(chr(10)) + 1}, byte {error.start} of "
                "the file; fetch it again."
            ) from None
    zero = data.find(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if zero < 0 or error.start < zero:
            raise CorpusError(
                f"The corpus must be UTF-8 text, but {name} is not: line {_line(data, error.start)}, "
                f"byte {error.start} of the file is 0x{data[error.start]:02x}; "
                "convert it first (such as iconv -f WINDOWS-1252 -t UTF-8), or name a text file."
            ) from None
    if zero >= 0:
        raise CorpusError(
            f"The corpus must be UTF-8 text, but {name} is binary: line {_line(data, zero)}, "
            f"byte {zero} of the file is 0x00; name a text file."
        )
    return text.removeprefix("\ufeff")


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _records(name: str, text: str, kind: str, field: str | None) -> Iterator[str]:
    """Yields the text of each record of a table."""
    rows = _json_lines(name, text) if kind in ("jsonl", "ndjson") else _rows(name, text, "\t" if kind == "tsv" else ",")
    for number, row in rows:
        if field is None:
            field = _only_text(name, row)
        value = row.get(field)
        if not isinstance(value, str):
            raise CorpusError(
                f"The corpus must have text in the field {field}, but line {number} of {name} has "
                f"{'none' if field not in row else type(value).__name__}; its fields are {', '.join(row)}."
            )
        yield value


def _json_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
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


def _rows(name: str, text: str, delimiter: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(max(len(text) + 1, csv.field_size_limit()))  # of the whole process: it is put back
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise CorpusError(
            f"The corpus must be a table, but line {reader.line_num} of {name} is damaged: {error}."
        ) from None
    finally:
        csv.field_size_limit(limit)
    for number, row in rows[1:]:
        yield number, dict(zip(rows[0][1], row, strict=False))


def _only_text(name: str, row: dict[str, object]) -> str:
    fields = [key for key, value in row.items() if isinstance(value, str)]
    if len(fields) != 1:
        example = f"{name}:{fields[0] if fields else 'text'}"
        raise CorpusError(
            f"The corpus must be one field of {name}: name it, such as {example}; it has {', '.join(row)}."
        )
    return fields[0]
