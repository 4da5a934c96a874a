"""Text to token ids and back, character by character or word by word. Imports NumPy, never TensorFlow.

A vocabulary is a list of tokens; a token's id is its place in the list. The reserved tokens come first:

========  ==========================================
level     reserved tokens
========  ==========================================
`char`    `<pad>`, `<s>`, `<eos>`
`word`    `<pad>`, `<unk>`, `<s>`, `<eos>`
========  ==========================================

Word tokens carry the space before them (`"the"`, `" cat"`, `","`), so that a text is exactly the concatenation of its
tokens at either level: nothing is normalized, lowercased or lost.
"""

import collections
import functools
import hashlib
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from keras_seq.errors import VocabularyError
from keras_seq.files import replacing

Level = Literal["char", "word"]

PAD: Final = "<pad>"
UNK: Final = "<unk>"
START: Final = "<s>"
EOS: Final = "<eos>"
RESERVED: Final[dict[Level, tuple[str, ...]]] = {"char": (PAD, START, EOS), "word": (PAD, UNK, START, EOS)}

# The classes below are explicit ranges of code points because `\w`, `\s` and `\p{..}` mean different characters in
# Python, RE2 and JavaScript, and in different versions of Unicode. The pattern holds the characters themselves: the
# escapes `\uXXXX` are undone by Python, so that no engine needs to know them.
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
"""Regular expression of one word token; the same in Python's `re`, in RE2 and in JavaScript with the `u` flag.

A token is a word, a punctuation mark or a character of a script without spaces, each with at most one space before it,
or else one character of white space. A word is the longest run of any other characters; an apostrophe between two of
them stays inside (`don't`). Every text without lone surrogates is the concatenation of its matches.
"""

_WORD_TOKEN: Final = re.compile(WORD_PATTERN)
_BAD_ESCAPE: Final = re.compile(r"\\(?!n|r|x5c)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def split_words(text: str) -> list[str]:
    """Splits a text into its word tokens, the matches of `WORD_PATTERN`; their concatenation is the text.

    >>> split_words("the cat's full, isn't it?")
    ['the', " cat's", ' full', ',', " isn't", ' it', '?']

    Raises:
        ValueError: The text holds a lone surrogate.
    """
    if found := _SURROGATE.search(text):
        raise _surrogate(text, found.start())
    return _WORD_TOKEN.findall(text)


class Vocabulary:
    """An immutable list of tokens, each with its place as its id.

    >>> vocabulary = Vocabulary.from_text("abcab")
    >>> vocabulary.tokens
    ('<pad>', '<s>', '<eos>', 'a', 'b', 'c')
    >>> vocabulary.encode("cab")
    array([5, 3, 4], dtype=int32)
    >>> vocabulary.decode([5, 3, 4])
    'cab'
    """

    def __init__(self, tokens: Sequence[str]):
        """Takes the tokens in the order of their ids, the reserved ones first.

        Args:
            tokens: `<pad>`, `<s>`, `<eos>` and then single characters, or `<pad>`, `<unk>`, `<s>`, `<eos>` and then
                word tokens (each a whole match of `WORD_PATTERN`). `<unk>` at id 1 makes the level "word".

        Raises:
            ValueError: A reserved token is missing, or a token is doubled or could never be met.
        """
        if isinstance(tokens, str):
            raise ValueError(f"`tokens` must be a sequence of strings. Received: tokens={tokens[:40]!r}")
        self._tokens = tuple(tokens)
        fault = _fault(self._tokens)
        if fault is not None:
            index, message = fault
            raise ValueError(f"`tokens` {message}. Received: tokens[{index}]={self._tokens[index : index + 1]!r}")
        self._level: Level = _level(self._tokens)

    @classmethod
    def from_text(
        cls,
        text: str,
        level: Level = "char",
        max_size: int | None = None,
        min_count: int = 1,
        coverage: float = 1.0,
    ) -> "Vocabulary":
        """Collects the tokens of a text.

        Args:
            text: The training text, not empty.
            level: "char" for every character, in order of code points, or "word" for the word tokens, the most
                frequent first and those of one count in order of code points.
            max_size: Largest size, reserved tokens included; None for no limit. At the character level nothing may be
                left out, so a size too small is an error there.
            min_count: Word tokens that occur less often are left out (they become `<unk>`); 1 at the character level.
            coverage: The most frequent word tokens are kept until they are at least this share of the text, above 0; 1 keeps
                all, as at the character level. The share that is left out becomes `<unk>`.

        Example:
            >>> Vocabulary.from_text("a a a b b c", level="word", coverage=0.8).tokens[4:]
            (' a', ' b', ' c')

        Raises:
            ValueError: An argument is out of range, or the text is empty or holds a lone surrogate.
        """
        if not isinstance(text, str) or not text:
            raise ValueError(f"`text` must be a string that is not empty. Received: text={text!r}")
        return cls.from_counts(count_tokens(text, level), level, max_size, min_count, coverage)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        level: Level = "char",
        max_size: int | None = None,
        min_count: int = 1,
        coverage: float = 1.0,
    ) -> "Vocabulary":
        """Chooses the tokens of a text by how often each occurs, as `count_tokens` tells; the rest is as of `from_text`.

        Example:
            >>> counts = count_tokens("a a b", "word") + count_tokens("a c", "word")
            >>> Vocabulary.from_counts(counts, "word", max_size=6).tokens[4:]
            ('a', ' a')

        Raises:
            ValueError: An argument is out of range.
        """
        reserved = RESERVED[_require_level(level)]
        if max_size is not None and (not _is_integer(max_size) or max_size <= len(reserved)):
            raise ValueError(
                f"`max_size` must be None or an integer above the {len(reserved)} reserved tokens. "
                f"Received: max_size={max_size!r}"
            )
        if not _is_integer(min_count) or min_count < 1:
            raise ValueError(f"`min_count` must be a positive integer. Received: min_count={min_count!r}")
        if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage <= 1:
            raise ValueError(f"`coverage` must be above 0 and at most 1. Received: coverage={coverage!r}")
        if level == "char":
            for name, value in (("min_count", min_count), ("coverage", coverage)):
                if value != 1:
                    raise ValueError(
                        f"`{name}` must be 1 at the character level, which has no <unk>. Received: {name}={value!r}"
                    )
            size = len(reserved) + len(counts)
            if max_size is not None and size > max_size:
                raise ValueError(
                    f"`max_size` must be at least {size} for the characters of this text, since the character level has no "
                    f"<unk>. Received: max_size={max_size!r}"
                )
            return cls((*reserved, *sorted(counts)))
        kept = sorted((token for token in counts if counts[token] >= min_count), key=lambda t: (-counts[t], t))
        if coverage < 1:
            covered = itertools.accumulate(counts[token] for token in kept)
            enough = coverage * sum(counts.values())
            kept = kept[: 1 + sum(1 for _ in itertools.takewhile(lambda count: count < enough, covered))]
        return cls((*reserved, *(kept if max_size is None else kept[: max_size - len(reserved)])))

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their ids."""
        return self._tokens

    @functools.cached_property
    def pieces(self) -> tuple[str, ...]:
        """What each token writes, in the order of their ids: the reserved tokens but `<unk>` nothing."""
        silent = {PAD, START, EOS}
        return tuple("" if token in silent else token for token in self._tokens)

    @property
    def level(self) -> Level:
        """What a token is: "char" or "word"."""
        return self._level

    @property
    def reserved(self) -> int:
        """The number of reserved tokens: they have the ids below it."""
        return len(RESERVED[self._level])

    @property
    def pad_id(self) -> int:
        """The id of `<pad>`, which fills up short lines and is never learned: 0."""
        return 0

    @property
    def unk_id(self) -> int | None:
        """The id of `<unk>`, which stands for every word left out; None at the character level, which has none."""
        return 1 if self._level == "word" else None

    @property
    def start_id(self) -> int:
        """The id of `<s>`, the first input of every sequence."""
        return self.reserved - 2

    @property
    def eos_id(self) -> int:
        """The id of `<eos>`, the end of a line or text."""
        return self.reserved - 1

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the vocabulary file, 64 hexadecimal digits: what exported models are checked against."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._tokens)

    def __eq__(self, other: object) -> bool:
        return self._tokens == other._tokens if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        return f"<Vocabulary level={self._level} size={len(self)} sha256={self.sha256[:12]}>"

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Turns a text into ids; adds neither `<s>` nor `<eos>`.

        Args:
            text: Any text. Words outside the vocabulary become `<unk>`.

        Returns:
            int32 ids, `(tokens,)`.

        Raises:
            ValueError: At the character level, characters outside the vocabulary (the message names up to ten); at
                either level, a lone surrogate.
        """
        if not isinstance(text, str):
            raise ValueError(f"`text` must be a string. Received: text={text!r}")
        return self._encode(text, self.ids if self._level == "word" else self._character_ids)

    def encode_lines(self, text: str) -> npt.NDArray[np.int32]:
        r"""Turns each line that is not empty into its ids and `<eos>`, line after line.

        Lines are as a text file has them, ended by `\n` or `\r\n`; Python's `splitlines` knows a dozen other ends.

        >>> Vocabulary.from_text("ab").encode_lines("a\n\nab\n")
        array([3, 2, 3, 4, 2], dtype=int32)

        Raises:
            ValueError: As of `encode`.
        """
        lines = (line.removesuffix("\r") for line in text.split("\n"))
        return self._encode("".join([line + "\n" for line in lines if line]), self._line_ids)

    def _encode(self, text: str, known: Any) -> npt.NDArray[np.int32]:
        """Turns a text into ids, by the id of each token, or at the character level of each code point."""
        if self._level == "word":
            return np.fromiter(map(known.get, split_words(text), itertools.repeat(1)), dtype=np.int32)
        code_points = _code_points(text)
        found = known[np.minimum(code_points, known.size - 1)]
        if (found < 0).any():
            missing = list(dict.fromkeys(map(chr, code_points[found < 0].tolist())))
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise ValueError(
                f"`text` must hold only characters of the vocabulary, which has {len(self) - self.reserved} of them. "
                f"Received: {', '.join(map(_name, missing[:10]))}{more}"
            )
        return found

    def decode(self, ids: Iterable[int] | npt.NDArray[np.integer]) -> str:
        """Turns ids back into text, token after token.

        Args:
            ids: Integer ids, `(tokens,)`.

        Returns:
            The tokens' concatenation: `<unk>` appears as such, the other reserved tokens not at all.

        Raises:
            ValueError: The ids are not integers in one dimension, or lie outside the vocabulary.
        """
        array = np.asarray(ids if isinstance(ids, np.ndarray | Sequence) else list(ids))
        if array.size == 0:
            return ""
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"`ids` must be integers in one dimension. Received: shape={array.shape}, dtype={array.dtype}"
            )
        outside = array[(array < 0) | (array >= len(self))]
        if outside.size:
            raise ValueError(f"`ids` must be at least 0 and below {len(self)}. Received: {int(outside[0])}")
        pieces = self.pieces
        return "".join([pieces[i] for i in array.tolist()])

    def to_bytes(self) -> bytes:
        r"""The vocabulary file: UTF-8, one token a line, the line's number (from 0) its id.

        A `\n` ends every line, the last too. Inside a token a backslash is written `\x5c`, a line feed `\n` and a
        carriage return `\r`, so that replacing `\n`, then `\r` and lastly `\x5c` undoes it in any language.
        """
        return "".join(_escape(token) + "\n" for token in self._tokens).encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Vocabulary":
        """Reads what `to_bytes` wrote.

        Raises:
            VocabularyError: The file is damaged; the message names the line.
        """
        if not data:
            raise VocabularyError("a vocabulary file must hold one token a line, but this one is empty")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            number = data.count(b"\n", 0, error.start) + 1
            raise VocabularyError(
                f"line {number}: must be UTF-8, but byte {error.start} of the file is 0x{data[error.start]:02x}"
            ) from None
        if not text.endswith("\n"):
            raise VocabularyError(f"line {text.count(chr(10)) + 1}: must end with a line feed; the file is cut short")
        lines = text[:-1].split("\n")
        for number, line in enumerate(lines, start=1):
            if "\r" in line:
                raise VocabularyError(
                    f"line {number}: must hold no bare carriage return; was the file converted to Windows line ends?"
                )
            bad = _BAD_ESCAPE.search(line)
            if bad:
                raise VocabularyError(
                    f"line {number}: a backslash must begin \\n, \\r or \\x5c, but {line[bad.start() :][:4]!r} came"
                )
        tokens = tuple(map(_unescape, lines))
        fault = _fault(tokens)
        if fault is not None:
            index, message = fault
            raise VocabularyError(f"line {index + 1}: the tokens {message}, but {tokens[index : index + 1]!r} came")
        return cls(tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary file under a temporary name beside `path`, then renames it: it is whole or absent."""
        with replacing(pathlib.Path(path)) as partial:
            partial.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Reads a vocabulary file.

        Raises:
            VocabularyError: The file is damaged; the message names the file and the line.
            OSError: The file cannot be read.
        """
        data = pathlib.Path(path).read_bytes()
        try:
            return cls.from_bytes(data)
        except VocabularyError as error:
            raise VocabularyError(f"{os.fspath(path)}: {error}") from None

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each token. A text never holds a reserved one: its `<` and `>` are tokens of their own."""
        return {token: i for i, token in enumerate(self._tokens)}

    @functools.cached_property
    def _character_ids(self) -> npt.NDArray[np.int32]:
        """The id of each code point up to one above the largest known, `(code points,)`; -1 for those that are not known."""
        code_points = [ord(token) for token in self._tokens[self.reserved :]]
        ids = np.full(max(code_points, default=-1) + 2, -1, np.int32)
        ids[code_points] = range(self.reserved, len(self))
        return ids

    @functools.cached_property
    def _line_ids(self) -> Any:
        """What `encode` looks up, with `<eos>` for the line feed, which is a token of its own in every text."""
        if self._level == "word":
            return {**self.ids, "\n": self.eos_id}
        known = self._character_ids
        ids = np.append(known, np.full(max(0, ord("\n") + 2 - known.size), -1, np.int32))
        ids[ord("\n")] = self.eos_id
        return ids


def count_tokens(text: str, level: Level) -> collections.Counter[str]:
    """Returns how often each token occurs in a text.

    >>> count_tokens("a b a", "char") == {"a": 2, " ": 2, "b": 1}
    True

    Raises:
        ValueError: `level` is none, or the text holds a lone surrogate.
    """
    if _require_level(level) == "word":
        return collections.Counter(split_words(text))
    counts = np.bincount(_code_points(text))
    return collections.Counter({chr(code_point): int(counts[code_point]) for code_point in np.flatnonzero(counts)})


def _require_level(level: Level) -> Level:
    if level not in RESERVED:
        raise ValueError(f'`level` must be "char" or "word". Received: level={level!r}')
    return level


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    try:
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    except UnicodeEncodeError as error:
        raise _surrogate(text, error.start) from None


def _level(tokens: Sequence[str]) -> Level:
    return "word" if tokens[1:2] == (UNK,) else "char"


def _fault(tokens: tuple[str, ...]) -> tuple[int, str] | None:
    """The first token that is not as it must be and what it must be, or None."""
    level = _level(tokens)
    for index, reserved in enumerate(RESERVED[level]):
        if tokens[index : index + 1] != (reserved,):
            return index, f"must begin with {', '.join(RESERVED[level])}"
    first: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            return index, "must be strings"
        if token in first:
            return index, f"must be distinct (the same token has id {first[token]})"
        first[token] = index
        if _SURROGATE.search(token):
            return index, "must hold no lone surrogate"
        if index < len(RESERVED[level]):
            continue
        if level == "char" and len(token) != 1:
            return index, "must be single characters at the character level"
        if level == "word" and not _WORD_TOKEN.fullmatch(token):
            return index, "must be single word tokens at the word level"
    return None


def _surrogate(text: str, place: int) -> ValueError:
    return ValueError(
        "`text` must hold no lone surrogate, which is no character and has no UTF-8. "
        f"Received: U+{ord(text[place]):04X} at index {place}"
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _name(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X})"


def _escape(token: str) -> str:
    return token.replace("\\", "\\x5c").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(line: str) -> str:
    return line.replace("\\n", "\n").replace("\\r", "\r").replace("\\x5c", "\\")
