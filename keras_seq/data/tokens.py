"""The tokens of a text: its characters, or its words. Imports NumPy, never TensorFlow.

The list of tokens alone says what a token is, the level of the vocabulary:

==============  ====================================  ==============================================================
level           tokens                                a text is
==============  ====================================  ==============================================================
`word`          begin with `<pad> <unk> <s> <eos>`    the concatenation of its word tokens
`char`          begin with `<pad> <s> <eos>`, or all  the concatenation of its characters
                but the reserved ones are characters
`whitespace`    all others                            words without the white space around them, joined with a space
==============  ====================================  ==============================================================

`Vocabulary.from_text` makes vocabularies of the levels `word` and `char`, which begin with these reserved tokens. At
both, nothing of a text is normalized, lowercased or lost. Word tokens include the space before them (`"the"`,
`" cat"`, `","`).

A vocabulary that was made elsewhere has its reserved tokens at any ids, found by their names: `<pad>`, `<s>`, `<eos>`,
and `[UNK]`, or `<unk>` where there is no `[UNK]`. Some may be missing.
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
AnyLevel = Literal["char", "word", "whitespace"]
CharacterClass = Literal["word", "space", "single", "punctuation"]

PAD: Final = "<pad>"
UNK: Final = "<unk>"
KERAS_UNK: Final = "[UNK]"
START: Final = "<s>"
EOS: Final = "<eos>"
RESERVED: Final[dict[Level, tuple[str, ...]]] = {"char": (PAD, START, EOS), "word": (PAD, UNK, START, EOS)}

# These classes are explicit ranges of code points because `\w`, `\s` and `\p{..}` mean different characters in
# Python, RE2 and JavaScript, and in different versions of Unicode. The pattern contains the characters themselves:
# Python resolves the escapes `\uXXXX`, so no regular expression engine has to support them.
SPACE: Final = "\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
APOSTROPHE: Final = "'\u2019"
PUNCTUATION: Final = (
    "!-/:-@\\[-`{-~\xa1-\xa9\xab\xac\xae-\xb1\xb4\xb6-\xb8\xbb\xbf\xd7\xf7"  # ASCII and Latin-1
    "\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6\u05f3\u05f4"  # Greek, Armenian, Hebrew
    "\u060c\u061b\u061e\u061f\u066a-\u066d\u06d4\u0964\u0965\u0970\u1361-\u1368"  # Arabic, Devanagari, Ethiopic
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2100-\u214f\u2190-\u2bff\u2e00-\u2e7f"  # general punctuation, symbols
    "\u3001-\u3004\u3008-\u3020\u3030\ufe10-\ufe1f\ufe30-\ufe6f"  # CJK punctuation
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffee\U0001f000-\U0001faff"  # full width, pictures
)
SINGLE: Final = (  # scripts written without spaces between words: every character is a token
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u302f\u3031-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
WORD: Final = f"[^{SPACE}{PUNCTUATION}{SINGLE}]"  # one character of a word

WORD_PATTERN: Final[str] = f" ?{WORD}+(?:[{APOSTROPHE}]{WORD}+)*| ?[{PUNCTUATION}]| ?[{SINGLE}]|[{SPACE}]"
"""Regular expression of one word token. It means the same in Python's `re`, in RE2 and in JavaScript with the `u` flag.

A token is one of:

* a word, a punctuation mark, or a character of a script without spaces, each with at most one space before it;
* one whitespace character.

A word is the longest run of any other characters. An apostrophe between two runs joins them (`don't`). Every text
without lone surrogates is the concatenation of its matches.
"""

_WORD_TOKEN: Final = re.compile(WORD_PATTERN)
# White space as `tf.strings.split` means it, and so `keras.layers.TextVectorization`: not that of Unicode.
WHITE_SPACE: Final = "\t\n\v\f\r "
_BETWEEN_WHITE_SPACE: Final = re.compile(f"[^{WHITE_SPACE}]+")
_WORD_OR_LINE_FEED: Final = re.compile(f"[^{WHITE_SPACE}]+|\n")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK: Final = "\ufeff"


_CLASSES: Final[dict[CharacterClass, re.Pattern[str]]] = {
    "word": re.compile(WORD),
    "space": re.compile(f"[{SPACE}]"),
    "single": re.compile(f"[{SINGLE}]"),
    "punctuation": re.compile(f"[{PUNCTUATION}]"),
}


def class_of(character: str) -> CharacterClass:
    """Returns what a character is in a word token.

    Example:
        >>> [class_of(character) for character in "a \u4f60,"]
        ['word', 'space', 'single', 'punctuation']
    """
    return next(name for name, pattern in _CLASSES.items() if pattern.match(character))


def begins_word(token: str) -> bool:
    """Returns whether a word token is a word or a character of a script without spaces, with a space before it or not.

    Example:
        >>> [begins_word(token) for token in ("the", " cat's", ",", " ,", " ")]
        [True, True, False, False, False]
    """
    return class_of(token[token[0] == " " and len(token) > 1]) in ("word", "single")


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


def split_whitespace(text: str, *, name: str = "text", line_feeds: bool = False) -> list[str]:
    r"""Splits a text at white space into words, without the white space, as `tf.strings.split` does.

    Args:
        text: any text.
        name: name of the caller's argument, for the error message.
        line_feeds: whether the line feeds of the text are words too.

    Raises:
        TextError: the text has a lone surrogate.

    Example:
        >>> split_whitespace(" the cat's\tfull,\n", line_feeds=True)
        ['the', "cat's", 'full,', '\n']
    """
    if found := _SURROGATE.search(text):
        raise _surrogate_error(text, found.start(), name)
    return (_WORD_OR_LINE_FEED if line_feeds else _BETWEEN_WHITE_SPACE).findall(text)


def split_text(text: str, level: AnyLevel) -> Sequence[str]:
    """Returns the tokens of a text at a level.

    Raises:
        TextError: the text has a lone surrogate; not at the character level.

    Example:
        >>> split_text("to be", "char")[:2], split_text("to be", "word"), split_text("to be", "whitespace")
        ('to', ['to', ' be'], ['to', 'be'])
    """
    return text if level == "char" else split_words(text) if level == "word" else split_whitespace(text)


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


def reserved_ids(tokens: Sequence[str]) -> dict[str, int]:
    """Returns the ids of the reserved tokens that a vocabulary has, by their names; that of the unknown one by `<unk>`.

    Example:
        >>> reserved_ids(["<pad>", "[UNK]", "a", "<unk>", "<s>"])
        {'<pad>': 0, '<s>': 4, '<unk>': 1}
    """
    unknown = KERAS_UNK if KERAS_UNK in tokens else UNK
    names = ((PAD, PAD), (START, START), (EOS, EOS), (UNK, unknown))
    return {name: tokens.index(token) for name, token in names if token in tokens}


def level_of(tokens: Sequence[str]) -> AnyLevel:
    """Returns the level of a vocabulary, by the rule at the top of this module.

    Example:
        >>> level_of(["<pad>", "[UNK]", "a", "b"]), level_of(["the", "cat", "<eos>"])
        ('char', 'whitespace')
    """
    head = tuple(tokens[:4])
    if head == RESERVED["word"]:
        return "word"
    reserved = set(reserved_ids(tokens).values())
    if head[:3] == RESERVED["char"] or all(len(token) == 1 for i, token in enumerate(tokens) if i not in reserved):
        return "char"
    return "whitespace"


def find_invalid_token(tokens: tuple[str, ...]) -> tuple[int, str] | None:
    """Returns the index of the first token that is invalid in a vocabulary, and what it must be; None if all are valid.

    Example:
        >>> find_invalid_token(("<pad>", "<s>", "<eos>", "a", "a"))
        (4, 'distinct, but it is also the token with id 3')
    """
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            return index, "a string"
    level, reserved = level_of(tokens), set(reserved_ids(tokens).values())
    first: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if token in first:
            return index, f"distinct, but it is also the token with id {first[token]}"
        first[token] = index
        if _SURROGATE.search(token):
            return index, "free of lone surrogates"
        if index == 0 and len(token) > 1 and token.startswith(_BYTE_ORDER_MARK):
            return index, "free of a byte order mark, which some editors put at the beginning of a file"
        if index not in reserved and (expected := _what_a_token_is(token, level)) is not None:
            return index, expected
    if len(reserved) == len(tokens) and tokens[:3] != RESERVED["char"] and tokens[:4] != RESERVED["word"]:
        return len(tokens), "one that texts can hold, because a vocabulary has more than reserved tokens"
    return None


def _what_a_token_is(token: str, level: AnyLevel) -> str | None:
    """Returns what a token of a level must be; None if it is that."""
    if level == "char":
        return (
            None
            if len(token) == 1
            else "a single character at the character level, where <pad>, <s>, <eos> begin a vocabulary"
        )
    if level == "word":
        hint = f"; if texts are split at white space, write {KERAS_UNK} instead of {UNK}"
        return None if _WORD_TOKEN.fullmatch(token) else f"a single word token at the word level{hint}"
    if _BETWEEN_WHITE_SPACE.fullmatch(token):
        return None
    return "a word without white space, because some tokens have several characters, so texts are split at white space"


def _surrogate_error(text: str, index: int, name: str) -> TextError:
    requirement = "hold no lone surrogate, which is not a character and has no UTF-8 encoding"
    return TextError(name, requirement, f"U+{ord(text[index]):04X} at index {index}")
