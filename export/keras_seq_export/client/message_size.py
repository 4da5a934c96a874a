"""How much of a message of gRPC is small parts, which take up to thirty times their size as objects."""

import itertools
from collections.abc import Iterator

_LONG = 1024  # bytes; a part of this size takes little more memory as an object
_MOST_PARTS = 100  # that are looked at in a tensor: 32 texts, and its shape
_MOST_OUTPUTS = 1000
# Fields: of PredictResponse, of an entry of its map, and of TensorProto: its bytes, floats, integers and strings.
_OUTPUTS, _VALUE, _VALUES = 1, 2, {4, 5, 7, 8}


def small_parts(message: bytes) -> int:
    """Returns the bytes of a serialized PredictResponse, without long strings and long lists of numbers.

    Example:
        >>> small_parts(b"no message")
        10
    """
    size = len(message)
    for output, entry in itertools.islice(_parts(memoryview(message)), _MOST_OUTPUTS):
        for number, value in itertools.islice(_parts(entry), 2):
            if (output, number) == (_OUTPUTS, _VALUE):
                parts = itertools.islice(_parts(value), _MOST_PARTS)
                size -= sum(len(part) for field, part in parts if field in _VALUES and len(part) >= _LONG)
    return size


def _parts(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields the number and the content of each field, empty without a length, until one that is malformed."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind, size = tag & 7, 0
        if kind in (0, 2):
            size, position = _varint(message, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            return
        size = size if kind == 2 else 0
        yield tag >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns the number at a position, and the position after it."""
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, position + shift + 1
    return value, len(message)
