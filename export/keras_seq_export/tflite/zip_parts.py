"""The zip at the end of a .tflite, read by the rule that each language's reader follows. Imports neither TensorFlow nor Keras.

General zip readers differ in what they accept: bytes before the archive, two entries of one name, sizes that differ
between an entry and the directory. This reader accepts one form only, that of `zipfile` in append mode, so that a file
is read in the same way everywhere or refused everywhere. docs/formats.md has it byte by byte.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple

_END, _ENTRY, _HEADER = b"PK\5\6", b"PK\1\2", b"PK\3\4"
_END_SIZE, _ENTRY_SIZE, _HEADER_SIZE = 22, 46, 30  # bytes
_STORED, _DEFLATED = 0, 8
_LARGEST_DIRECTORY: Final = 1 << 16  # bytes


class _Entry(NamedTuple):
    """An entry of the directory: `header` is the offset of its local header, `fields` the bytes that this repeats."""

    name: bytes
    method: int
    checksum: int
    packed_size: int
    size: int
    header: int
    fields: bytes


def read_parts(file: BinaryIO, file_size: int, largest: Mapping[str, int]) -> tuple[dict[str, bytes], int]:
    """Returns the parts of the zip at the end of a file, and the offset at which the zip begins.

    Args:
        file: the file.
        file_size: its size in bytes.
        largest: the names of the parts to unpack, and how many bytes each may have. The others are not unpacked.

    Raises:
        ValueError: the zip is missing, damaged or of another form, or a part is too large.
    """
    directory, start = _directory(file, file_size)
    entries = list(_entries(directory))
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("the zip at its end has two entries of one name")
    for entry in entries:
        _require_header(file, entry, start)
    wanted = {name.encode(): (name, size) for name, size in largest.items()}
    parts = {}
    for entry in entries:
        if entry.name in wanted:
            name, most = wanted[entry.name]
            parts[name] = _unpacked(file, entry, name, most)
    return parts, min((entry.header for entry in entries), default=start)


def _directory(file: BinaryIO, file_size: int) -> tuple[bytes, int]:
    """Returns the directory, which lies before the last record of the file, and its offset."""
    file.seek(max(0, file_size - _END_SIZE))
    end = file.read(_END_SIZE)
    if len(end) < _END_SIZE or end[:4] != _END:
        raise ValueError("no zip ends with the file")
    disks, count, total = _number(end, 4, 4), _number(end, 8, 2), _number(end, 10, 2)
    size, start, comment = _number(end, 12, 4), _number(end, 16, 4), _number(end, 20, 2)
    if size > _LARGEST_DIRECTORY:
        raise ValueError("the directory of the zip at its end is too large")
    if disks or comment or count != total or start + size + _END_SIZE != file_size:
        raise ValueError("the last record of the zip at its end is damaged")
    file.seek(start)
    directory = file.read(size)
    if sum(1 for _ in _entries(directory)) != count:
        raise ValueError("the directory of the zip at its end has another number of entries")
    return directory, start


def _entries(directory: bytes) -> Iterator[_Entry]:
    position = 0
    while position < len(directory):
        fields = directory[position : position + _ENTRY_SIZE]
        if len(fields) < _ENTRY_SIZE or fields[:4] != _ENTRY:
            raise ValueError("the directory of the zip at its end is damaged")
        name_size = _number(fields, 28, 2)
        name_start = position + _ENTRY_SIZE
        position = name_start + name_size + _number(fields, 30, 2) + _number(fields, 32, 2)
        if position > len(directory):
            raise ValueError("the directory of the zip at its end is cut short")
        flags, method = _number(fields, 8, 2), _number(fields, 10, 2)
        if flags or method not in (_STORED, _DEFLATED):
            raise ValueError("an entry of the zip at its end must be stored or deflated, without a password")
        yield _Entry(
            name=directory[name_start : name_start + name_size],
            method=method,
            checksum=_number(fields, 16, 4),
            packed_size=_number(fields, 20, 4),
            size=_number(fields, 24, 4),
            header=_number(fields, 42, 4),
            fields=fields[6:30],
        )


def _require_header(file: BinaryIO, entry: _Entry, end: int) -> None:
    """Requires the local header of an entry to repeat what the directory says, and its content to end before it."""
    file.seek(entry.header)
    header = file.read(_HEADER_SIZE + len(entry.name))
    expected = _HEADER + entry.fields + bytes(2) + entry.name
    if header != expected or entry.header + len(header) + entry.packed_size > end:
        raise ValueError("an entry of the zip at its end differs from its directory")


def _unpacked(file: BinaryIO, entry: _Entry, name: str, most: int) -> bytes:
    if entry.size > most:
        raise ValueError(f"{name} has {entry.size} bytes, more than the {most} allowed")
    file.seek(entry.header + _HEADER_SIZE + len(entry.name))
    content = packed = file.read(entry.packed_size)
    is_whole = True
    if entry.method == _DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # What an entry inflates to can be far more than its stated size.
            content = stream.decompress(packed, entry.size + 1)
        except zlib.error as error:
            raise ValueError(f"{name} is damaged: {error}") from error
        is_whole = stream.eof and not stream.unused_data
    if not is_whole or len(content) != entry.size or zlib.crc32(content) != entry.checksum:
        raise ValueError(f"{name} is damaged: its size or its checksum is wrong")
    return content


def _number(content: bytes, start: int, size: int) -> int:
    return int.from_bytes(content[start : start + size], "little")
