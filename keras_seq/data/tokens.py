"""The tokens of a text: its characters, or its words. Imports NumPy, never TensorFlow.

Every vocabulary begins with reserved tokens:

========  ==========================================
level     reserved tokens
========  ==========================================
`char`    `<pad>`, `<s>`, `<eos>`
`word`    `<pad>`, `<unk>`, `<s>`, `<eos>`
========  ==========================================

Word tokens include the space before them (`"the"`, `" cat"`, `","`). At either level a text is exactly the
concatenation of its tokens: nothing is normalized, lowercased or lost.
"""

import collections
import re
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from keras_seq import require
from keras_seq.errors import TextError

Level = Literal["char", "word"]

PAD: Final = "<pad>"
UNK: Final = "<unk>"
START: Final = "<s>"
EOS: Final = "<eos>"
RESERVED: Final[dict[Level, tuple[str, ...]]] = {"char": (PAD, START, EOS), "word": (PAD, UNK, START, EOS)}

# The classes below are explicit ranges of code points because `\w`, `\s` and `\p{..}` mean different characters in
# Python, RE2 and JavaScript, and in different versions of Unicode. The pattern contains the characters themselves:
# Python resolves the escapes `\uXXXX`, so no regular expression engine has to support them.
_SPACE: Final = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_APOSTROPHE: Final = "'\u2019"
_PUNCTUATION: Final = (
    "!-/:-@\\[-`{-~\xa1-\xa9\xab\xac\xae-\xb1\xb4\xb6-\xb8\xbb\xbf\xd7\xf7"  # ASCII and Latin-1
    "\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4"  # Greek, Armenian, Hebrew
    "\u060c\u061b\u061e\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u1361-\u1368"  # Arabic, Devanagari, Ethiopic
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2100-\u214f\u2190-\u2bff\u2e00-\u2e7f"  # general punctuation, symbols
    "\u3001-\u3004\u3008-\u3020\u3030\ufe10-\ufe1f\ufe30-\ufe6f"  # CJK punctuation
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffee\U0001f000-\U0001faff"  # full width, pictures
)
_SINGLE: Final = (  # scripts written without spaces between words: every character is a token
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u302f\u3031-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_WORD: Final = f"[^{_SPACE}{_PUNCTUATION}{_SINGLE}]+"

WORD_PATTERN: Final[str] = f" ?{_WORD}(?:[{_APOSTROPHE}]{_WORD})*| ?[{_PUNCTUATION}]| ?[{_SINGLE}]|[{_SPACE}]"
"""Regular expression of one word token. It means the same in Python's `re`, in RE2 and in JavaScript with the `u` flag.

A token is one of:

* a word, a punctuation mark, or a character of a script without spaces, each with at most one space before it;
* one whitespace character.

A word is the longest run of any other characters. An apostrophe between two runs joins them (`don't`). Every text
without lone surrogates is the concatenation of its matches.
"""

_WORD_TOKEN: Final = re.compile(WORD_PATTERN)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def split_words(text: str, *, name: str = "text") -> list[str]:
    """Splits a text into its word tokens, the matches of `WORD_PATTERN`; their concatenation is the text.

    Args:
        text: any text.
        name: name of the caller's argument, for the error message.

    Raises:
        TextError: the text has a lone surrogate.

    Example:
        >>> split_words("the cat's full, isn't it?")
        ['the', " cat's", ' full', ',', " isn't", ' it', '?']
    """
    if found := _SURROGATE.search(text):
        raise _surrogate_error(text, found.start(), name)
    return _WORD_TOKEN.findall(text)


def split_lines(text: str) -> list[str]:
    r"""Splits a text into lines, without their ends. Lines end in `\n` or `\r\n`, unlike those of `str.splitlines`.

    Example:
        >>> split_lines("to be\u2028or not\r\nto be\n")
        ['to be\u2028or not', 'to be', '']
    """
    return [line.removesuffix("\r") for line in text.split("\n")]


def code_points(text: str, *, name: str = "text") -> npt.NDArray[np.uint32]:
    """Returns the Unicode code points of a text, `(characters,)`.

    Args:
        text: any text.
        name: name of the caller's argument, for the error message.

    Raises:
        TextError: the text has a lone surrogate.
    """
    try:
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    except UnicodeEncodeError as error:
        raise _surrogate_error(text, error.start, name) from None


def count_tokens(text: str, level: Level) -> collections.Counter[str]:
    """Returns how often each token occurs in a text.

    Raises:
        ArgumentError: `level` is not one of the levels.
        TextError: the text has a lone surrogate.

    Example:
        >>> count_tokens("a b a", "char") == {"a": 2, " ": 2, "b": 1}
        True
    """
    require.one_of("level", level, RESERVED)
    if level == "word":
        return collections.Counter(split_words(text))
    counts = np.bincount(code_points(text))
    return collections.Counter({chr(code_point): int(counts[code_point]) for code_point in np.flatnonzero(counts)})


def level_of(tokens: Sequence[str]) -> Level:
    """Returns the level of a vocabulary: "word" if the token with id 1 is `<unk>`, else "char"."""
    return "word" if tokens[1:2] == (UNK,) else "char"


def find_invalid_token(tokens: tuple[str, ...]) -> tuple[int, str] | None:
    """Returns the index of the first token that is invalid in a vocabulary, and what it must be; None if all are valid.

    Example:
        >>> find_invalid_token(("<pad>", "<s>", "<eos>", "a", "a"))
        (4, 'distinct, but it is also the token with id 3')
    """
    level = level_of(tokens)
    reserved = RESERVED[level]
    for index, token in enumerate(reserved):
        if tokens[index : index + 1] != (token,):
            return index, f"{token}, because a vocabulary begins with {', '.join(reserved)}"
    first: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            return index, "a string"
        if token in first:
            return index, f"distinct, but it is also the token with id {first[token]}"
        first[token] = index
        if _SURROGATE.search(token):
            return index, "free of lone surrogates"
        if index < len(reserved):
            continue
        if level == "char" and len(token) != 1:
            return index, "a single character at the character level"
        if level == "word" and not _WORD_TOKEN.fullmatch(token):
            return index, "a single word token at the word level"
    return None


def _surrogate_error(text: str, index: int, name: str) -> TextError:
    requirement = "hold no lone surrogate, which is not a character and has no UTF-8 encoding"
    return TextError(name, requirement, f"U+{ord(text[index]):04X} at index {index}")
