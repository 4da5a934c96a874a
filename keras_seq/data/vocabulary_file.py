r"""The vocabulary file: UTF-8, one token per line; the line number, counted from 0, is the token's id.

Every line ends in `\n`, including the last. Within a token, a backslash is written `\x5c`, a line feed `\n` and a
carriage return `\r`. To undo this in any language, replace `\n`, then `\r`, then `\x5c`.
"""

import re
from collections.abc import Sequence
from typing import Final

from keras_seq.data.tokens import find_invalid_token
from keras_seq.errors import VocabularyError

_LONGEST_SHOWN: Final = 40  # characters of a token in an error message
_BAD_ESCAPE: Final = re.compile(r"\\(?!n|r|x5c)")
MOST_TOKENS: Final = 2**22  # `encode_corpus` counts up to 4,000,000 distinct words.
MOST_BYTES: Final = 2**28  # of the file


def file_bytes(tokens: Sequence[str]) -> bytes:
    r"""Returns the content of the vocabulary file with these tokens.

    Raises:
        VocabularyError: it is too large to load.

    Example:
        >>> file_bytes(["<pad>", "\n"])
        b'<pad>\n\\n\n'
    """
    content = "".join(_escape(token) + "\n" for token in tokens).encode("utf-8")
    if len(content) > MOST_BYTES:
        raise VocabularyError(
            f"a vocabulary file must have at most {MOST_BYTES:,} bytes, but that of these tokens has {len(content):,}; "
            "leave out rare words with `max_size`"
        )
    return content


def parse_file(data: bytes) -> tuple[str, ...]:
    """Returns the tokens of a vocabulary file, given its content.

    Raises:
        VocabularyError: the file is damaged; the message names the line.
    """
    tokens = tuple(map(_unescape, _lines(data)))
    if (invalid := find_invalid_token(tokens)) is not None:
        index, expected = invalid
        # A damaged file can be one token of megabytes.
        found = repr(tokens[index][:_LONGEST_SHOWN]) if index < len(tokens) else "the end of the file"
        raise VocabularyError(f"line {index + 1}: the token must be {expected}, but {found} was found")
    return tokens


def _lines(data: bytes) -> list[str]:
    if not data:
        raise VocabularyError("a vocabulary file must hold one token per line, but this file is empty")
    if (count := data.count(b"\n")) > MOST_TOKENS:  # Counted before they take memory.
        raise VocabularyError(
            f"a vocabulary file must hold at most {MOST_TOKENS:,} tokens, but this one has {count:,} lines"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise VocabularyError(
            f"line {number}: must be UTF-8, but byte {error.start} of the file is 0x{data[error.start]:02x}"
        ) from None
    if not text.endswith("\n"):
        raise VocabularyError(f"line {text.count(chr(10)) + 1}: must end in a line feed; the file is cut short")
    lines = text[:-1].split("\n")
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            raise VocabularyError(
                f"line {number}: must not contain a carriage return; was the file converted to Windows line endings?"
            )
        if bad := _BAD_ESCAPE.search(line):
            raise VocabularyError(
                f"line {number}: a backslash must begin \\n, \\r or \\x5c, but {line[bad.start() :][:4]!r} was found"
            )
    return lines


def _escape(token: str) -> str:
    return token.replace("\\", "\\x5c").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(line: str) -> str:
    return line.replace("\\n", "\n").replace("\\r", "\r").replace("\\x5c", "\\")
