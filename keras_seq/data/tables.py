"""Reads a text field of tables: `.csv`, `.tsv` and JSON lines."""

import csv
import json
from collections.abc import Iterable, Iterator

from keras_seq.errors import CorpusError

TABLES = ("csv", "tsv", "jsonl", "ndjson")
_LONGEST_FIELD = 2**31 - 1  # characters per field: the largest limit that `csv` accepts on every system


def read_records(name: str, pieces: Iterable[str], kind: str, field: str | None) -> Iterator[str]:
    r"""Yields the text of one field of each record of a table.

    Args:
        name: name of the file, for error messages.
        pieces: content of the file, in pieces.
        kind: one of `TABLES`.
        field: the field; None for the only field with text.

    Raises:
        CorpusError: a line is damaged, or its field is missing or not text; the message names the line.

    Example:
        >>> list(read_records("news.csv", ["id,body\n1,to be\n", "2,or not\n"], "csv", "body"))
        ['to be', 'or not']
    """
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
                f"the field {field} must be text, but line {number} of {name} has "
                f"{'no such field' if field not in row else type(value).__name__}; its fields are {', '.join(row)}"
            )
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON escapes can contain one.
            raise CorpusError(
                f"the corpus must be text, but line {number} of {name} has the lone surrogate "
                f"U+{ord(value[error.start]):04X}, which is not a character; remove it"
            ) from None
        yield value


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a text that comes in pieces."""
    unfinished: list[str] = []  # pieces of the line at the end
    for piece in pieces:
        first, *others = piece.split("\n")
        unfinished.append(first)
        for line in others:
            yield "".join(unfinished) + "\n"
            unfinished = [line]
    if any(unfinished):
        yield "".join(unfinished)


def _json_lines(name: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields line number and record of JSON lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                f"every line must be JSON, but line {number} of {name} is not: {error}; correct the line"
            ) from None
        if not isinstance(row, dict):
            raise CorpusError(
                f"every line must be a JSON object, but line {number} of {name} is a {type(row).__name__}; "
                "correct the line"
            )
        yield number, row


def _rows(name: str, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields line number and record of a CSV or TSV table."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        limit = csv.field_size_limit(_LONGEST_FIELD)  # applies to the whole process, so it is restored
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CorpusError(f"line {reader.line_num} of {name} is damaged: {error}; correct the line") from None
        finally:
            csv.field_size_limit(limit)
        if row is None:
            return
        if header is not None and row:
            yield reader.line_num, dict(zip(header, row, strict=False))
        header = header or row


def _only_text(name: str, row: dict[str, object]) -> str:
    """Returns the only field of a record that is text."""
    fields = [key for key, value in row.items() if isinstance(value, str)]
    if len(fields) != 1:
        example = f"{name}:{fields[0] if fields else 'text'}"
        raise CorpusError(
            f"the corpus must be one field of {name}, which has the fields {', '.join(row)}; "
            f"name one, for example {example}"
        )
    return fields[0]
