"""Reads a text field of tables: `.csv`, `.tsv` and JSON lines.

The field of a `.csv` or `.tsv` must be named: its name in the first row proves that this row is the header and, in a
`.csv`, which delimiter is the right one. A table that could be read in two ways is refused.

======================  ===========================================================================================
suffix                  format
======================  ===========================================================================================
`.csv`                  separated by commas, semicolons, tabs or `|`; quoted as in RFC 4180
`.tsv`                  a row is a line, fields are separated by tabs, and all other characters are text, also
                        quotation marks and backslashes (IANA's `text/tab-separated-values`)
`.jsonl`, `.ndjson`     a JSON object on each line
======================  ===========================================================================================
"""

import collections
import contextlib
import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from keras_seq.errors import CorpusError

TABLES = ("csv", "tsv", "jsonl", "ndjson")
_DELIMITERS = {",": "comma-separated", ";": "semicolon-separated", "\t": "tab-separated", "|": "separated by |"}
# Of a record, which is held in memory: as JSON, in up to 280 MB. Blank lines before it count, so that reading ends.
_LONGEST_RECORD, _MOST_LINES = 2**23, 2**20  # characters, lines
_MOST_SHOWN = 12  # fields in a message, each cut to three times as many characters

_Texts = Iterator[tuple[int, str]]  # the number of a line, and a text
_Rows = Iterator[tuple[int, list[str]]]  # the number of the line on which a row begins, and its fields
_Records = Iterator[tuple[int, dict[str, Any]]]  # the number of a line, and its JSON object


def read_records(name: str, pieces: Iterable[str], kind: str, field: str | None) -> Iterator[str]:
    r"""Yields the text of one field of each record of a table.

    Args:
        name: name of the file, for error messages.
        pieces: content of the file, in pieces.
        kind: one of `TABLES`.
        field: the field; None for the only field with text, in JSON lines.

    Raises:
        CorpusError: the header or the delimiter cannot be determined; a line is damaged; a record has more than 8,388,608
            characters or 1,048,576 lines; a row has more or fewer fields than the header; or the field is missing or not
            text. The message names the line.

    Example:
        >>> list(read_records("news.csv", ["id,body\n1,to be\n", "2,or not\n"], "csv", "body"))
        ['to be', 'or not']
    """
    _, texts = _open(name, pieces, kind, field)
    for number, text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON escapes can contain one.
            raise CorpusError(
                f"the corpus must be text, but line {number} of {name} has the lone surrogate "
                f"U+{ord(text[error.start]):04X}, which is not a character; remove it"
            ) from None
        yield text


def describe_table(name: str, pieces: Iterable[str], kind: str, field: str | None) -> str:
    r"""Returns how `read_records` reads a table: its delimiter, its header and the field.

    The arguments and errors are those of `read_records`.

    Example:
        >>> describe_table("news.csv", ["id;body\n1;to be\n"], "csv", "body")
        'semicolon-separated, header id, body, text from body'
    """
    description, _ = _open(name, pieces, kind, field)
    return description


def _open(name: str, pieces: Iterable[str], kind: str, field: str | None) -> tuple[str, _Texts]:
    """Returns how a table is read, and an iterator over the texts of its field."""
    record = _RecordSize(name)
    lines = record.of_lines(_lines(name, pieces))
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return "empty", iter(())
    if kind in ("jsonl", "ndjson"):
        description, texts = _open_json_lines(name, itertools.chain([first], lines), field)
        return description, record.of_texts(texts)
    number, line = first
    if kind == "tsv":
        form, header = "tab-separated without quoting", _tsv_row(line)
        rows: _Rows = ((number, _tsv_row(line)) for number, line in lines)
    else:
        delimiter, header = _delimiter(name, number, line, field)
        form = _DELIMITERS[delimiter] if len(header) > 1 else "a single field"
        rows = _csv_rows(name, number, (line for _, line in lines), delimiter)
    if field is None or header.count(field) != 1:
        _refuse_header(name, header, field)
    texts = _column(name, rows, header, header.index(field), kind)
    return f"{form}, header {_shown(header)}, text from {_shown([field])}", record.of_texts(texts)


class _RecordSize:
    """Limits what is read for one text: its record, and any lines before it that are blank.

    Args:
        name: name of the file.
    """

    def __init__(self, name: str):
        self._name, self._characters, self._lines = name, 0, 0

    def of_lines(self, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Yields the lines of the table with their numbers."""
        for number, line in enumerate(lines, 1):
            self._characters += len(line)
            self._lines += 1
            _require_short(self._name, number, self._characters, self._lines)
            yield number, line

    def of_texts(self, texts: _Texts) -> _Texts:
        """Yields the texts that are read from the lines."""
        for text in texts:
            self._characters = self._lines = 0
            yield text


def _lines(name: str, pieces: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a text that comes in pieces, each shorter than a record may be."""
    unfinished: list[str] = []  # pieces of the line at the end
    size, number = 0, 1  # of that line
    for piece in pieces:
        first, *others = piece.split("\n")
        unfinished.append(first)
        size += len(first)
        _require_short(name, number, size)
        for line in others:
            yield "".join(unfinished) + "\n"
            unfinished = [line]
        if others:
            size, number = len(others[-1]), number + len(others)
    if any(unfinished):
        yield "".join(unfinished)


def _require_short(name: str, number: int, characters: int, lines: int = 1) -> None:
    """Requires that a record up to a line fits in memory."""
    if characters > _LONGEST_RECORD or lines > _MOST_LINES:
        raise CorpusError(
            f"a record must have at most {_LONGEST_RECORD:,} characters and {_MOST_LINES:,} lines, but that up to line "
            f"{number} of {name} has more; split it, or name the file .txt if it is not a table"
        )


def _tsv_row(line: str) -> list[str]:
    return line.removesuffix("\n").removesuffix("\r").split("\t")


def _csv_rows(name: str, before: int, lines: Iterable[str], delimiter: str) -> _Rows:
    """Yields the rows of a CSV table that are not empty.

    Args:
        name: name of the file.
        before: number of lines before these.
        lines: the lines.
        delimiter: what separates the fields.
    """
    # It applies to the whole process, so it is never restored: threads that did so would lower it for each other.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * _LONGEST_RECORD))  # more than a record has
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        begin = before + reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            reason = str(error).partition(" - ")[0]  # without advice to programmers
            raise CorpusError(
                f"the row on line {begin} of {name} is damaged: {reason}; correct its quotation marks or line breaks"
            ) from None
        if row is None:
            return
        if delimiter == "\t" and before + reader.line_num > begin and any("\t" in field for field in row):
            raise CorpusError(
                f"the row on line {begin} of {name} has quotation marks around a tab and a line break, so they may be "
                "text; name the file .tsv if they are, or else remove that tab"
            )
        if row:
            yield begin, row


def _delimiter(name: str, number: int, line: str, field: str | None) -> tuple[str, list[str]]:
    """Returns the delimiter that finds the field in the first line of a `.csv`, and the fields of that line.

    If no delimiter does, the one that finds the most fields is returned.
    """
    rows: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        with contextlib.suppress(CorpusError):  # Its quotation marks can be right with another delimiter.
            rows[delimiter] = next(_csv_rows(name, number - 1, [line], delimiter))[1]
    if not rows:
        raise CorpusError(
            f"the header of {name} must be on one line, with quotation marks in pairs; correct line {number}"
        )
    # A line that can be split is never read as a single name: the field `id;body` does not exist.
    headers = {delimiter: row for delimiter, row in rows.items() if len(row) > 1}
    if not headers:
        return ",", next(iter(rows.values()))
    found = [delimiter for delimiter, header in headers.items() if field in header]
    if len(found) > 1:
        raise CorpusError(
            f"a single delimiter must find the field {field} in the first row of {name}, but this row has it both "
            f"{' and '.join(_DELIMITERS[delimiter] for delimiter in found)}; rename one of its fields"
        )
    best = found[0] if found else max(headers, key=lambda delimiter: len(headers[delimiter]))
    return best, headers[best]


def _refuse_header(name: str, row: list[str], field: str | None) -> NoReturn:
    """Raises an error that says why the first row of a table is not a header with the field."""
    if field in row:
        raise CorpusError(f"the header of {name} must have the field {field} once. Received: {_shown(row)}; rename one")
    if f'"{field}"' in row:
        raise CorpusError(
            f"the fields of a .tsv must not be quoted. Received: {name}, with the first row {_shown(row)}; name the file "
            ".csv to have the quotation marks removed"
        )
    if len(row) > 1:
        advice = "if that row is not a header, put a row with the names of the fields above it"
    else:
        advice = "if that row is not a header, name the file .txt to read every line as text"
    if field is None:
        raise CorpusError(
            f"the field of a table must be named, as in {name}:FIELD, because only its name shows that the first row is a "
            f"header. Received: {name}, with the first row {_shown(row)}; {advice}"
        )
    raise CorpusError(
        f"the first row of {name} must be a header with the field {field}. Received: {_shown(row)}; name one of these, "
        f"or, {advice}"
    )


def _column(name: str, rows: _Rows, header: list[str], index: int, kind: str) -> _Texts:
    """Yields the line number and one field of each row."""
    for number, row in rows:
        if len(row) != len(header):
            if not "".join(row).strip():
                continue
            advice = (
                "quote text that has a delimiter" if kind == "csv" else "name the file .csv if its fields are quoted"
            )
            raise CorpusError(
                f"every row of {name} must have as many fields as its header, {len(header)}, but the row on line {number} "
                f"has {len(row)}; correct the row, or {advice}"
            )
        if kind == "tsv" and _is_quoted(row[index]):
            raise CorpusError(
                f"the fields of a .tsv must not be quoted, but line {number} of {name} has {_shown([row[index]])}; name "
                "the file .csv to have the quotation marks removed"
            )
        yield number, row[index]


def _is_quoted(field: str) -> bool:
    r"""Returns whether quotation marks around and inside a field are those of CSV, such as `\"\"\"Hi,\"\" he said.\"`."""
    inside = field[1:-1]
    return field[:1] == field[-1:] == '"' and '""' in inside and '"' not in inside.replace('""', "")


def _open_json_lines(name: str, lines: Iterable[tuple[int, str]], field: str | None) -> tuple[str, _Texts]:
    """Returns how JSON lines are read, and an iterator over the texts of the field."""
    records = _json_records(name, lines)
    first = next(records)
    records = itertools.chain([first], records)
    named = field if field is not None else _only_text(name, *first)
    return f"JSON lines, text from {_shown([named])}", _values(name, records, named, only=field is None)


def _json_records(name: str, lines: Iterable[tuple[int, str]]) -> _Records:
    """Yields line number and record of JSON lines."""
    decode = json.JSONDecoder(object_pairs_hook=_without_duplicates).decode
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = decode(line)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise CorpusError(
                f"every line must be JSON, but line {number} of {name} is not: {reason}; correct the line"
            ) from None
        if not isinstance(record, dict):
            raise CorpusError(
                f"every line must be a JSON object, but line {number} of {name} is a {type(record).__name__}; "
                "correct the line"
            )
        yield number, record


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; requires that each of its names is there once."""
    record = dict(pairs)
    if len(record) < len(pairs):
        ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has the field {_shown([twice])} twice")
    return record


def _values(name: str, records: _Records, field: str, only: bool) -> _Texts:
    """Yields line number and text of a field of each record; if `only`, requires that the others are not text."""
    for number, record in records:
        if only:
            _only_text(name, number, record)
        text = record.get(field)
        if not isinstance(text, str):
            raise CorpusError(
                f"the field {_shown([field])} must be text, but line {number} of {name} has "
                f"{type(text).__name__ if field in record else 'no such field'}; its fields are {_shown(list(record))}"
            )
        yield number, text


def _only_text(name: str, number: int, record: dict[str, Any]) -> str:
    """Returns the only field of a record that is text."""
    fields = [key for key, value in record.items() if isinstance(value, str)]
    if len(fields) != 1:
        raise CorpusError(
            f"the corpus must be one field of {name}, which has the fields {_shown(list(record))} on line {number}; "
            f"name one, for example {name}:{_shown(fields[:1]) or 'text'}"
        )
    return fields[0]


def _shown(names: list[str]) -> str:
    """Returns names of fields as they appear in messages: on one line, and not too long."""
    shown = []
    for name in names[:_MOST_SHOWN]:
        cut = name if len(name) <= 3 * _MOST_SHOWN else name[: 3 * _MOST_SHOWN] + "..."
        shown.append(cut if cut and cut == cut.strip() and cut.isprintable() and "," not in cut else repr(cut))
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(shown) + more
