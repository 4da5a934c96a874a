"""`Vocabulary`: text to token ids and back. Imports NumPy, never TensorFlow.

A vocabulary is a list of tokens (`keras_seq.data.tokens`); the id of a token is its index in the list.
"""

import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seq import require
from keras_seq.data.tokens import (
    EOS,
    PAD,
    RESERVED,
    START,
    Level,
    code_points,
    count_tokens,
    find_invalid_token,
    level_of,
    split_lines,
    split_words,
)
from keras_seq.data.vocabulary_file import file_bytes, parse_file
from keras_seq.errors import ArgumentError, TextError, VocabularyError
from keras_seq.files import replacing


class Vocabulary:
    """An immutable list of tokens; the id of a token is its index.

    Example:
        >>> vocabulary = Vocabulary.from_text("abcab")
        >>> vocabulary.tokens
        ('<pad>', '<s>', '<eos>', 'a', 'b', 'c')
        >>> vocabulary.encode("cab")
        array([5, 3, 4], dtype=int32)
        >>> vocabulary.decode([5, 3, 4])
        'cab'
    """

    def __init__(self, tokens: Sequence[str]):
        """Creates a vocabulary from its tokens in the order of their ids.

        Args:
            tokens: `<pad>`, `<s>`, `<eos>` followed by single characters, or `<pad>`, `<unk>`, `<s>`, `<eos>` followed
                by word tokens (each a full match of `WORD_PATTERN`). `<unk>` at id 1 makes the level "word".

        Raises:
            ArgumentError: a reserved token is missing, a token occurs twice, or a token can never occur in a text.
        """
        if isinstance(tokens, str):
            raise ArgumentError("tokens", "a sequence of strings", tokens[:40])
        self._tokens = tuple(tokens)
        self._level: Level = level_of(self._tokens)
        if (invalid := find_invalid_token(self._tokens)) is not None:
            index, expected = invalid
            received = self._tokens[index] if index < len(self._tokens) else None
            raise ArgumentError(f"tokens[{index}]", expected, received)

    @classmethod
    def from_text(
        cls,
        text: str,
        level: Level = "char",
        max_size: int | None = None,
        min_count: int = 1,
        coverage: float = 1.0,
    ) -> "Vocabulary":
        """Builds the vocabulary of a text.

        Args:
            text: the training text; must not be empty.
            level: "char" takes every character, ordered by code point. "word" takes the word tokens, the most frequent
                first; tokens of equal count are ordered by code point.
            max_size: largest size, including the reserved tokens; None for no limit. The character level cannot leave
                out a token, so there a size that is too small is an error.
            min_count: word tokens that occur less often are left out and become `<unk>`; must be 1 at the character
                level.
            coverage: the most frequent word tokens are kept until they make up at least this fraction of the text;
                above 0 and at most 1. The others become `<unk>`. 1 keeps all, and must be 1 at the character level.

        Raises:
            ArgumentError: an argument is out of range, or the text is empty.
            TextError: the text has a lone surrogate.

        Example:
            >>> Vocabulary.from_text("a a a b b c", level="word", coverage=0.8).tokens[4:]
            (' a', ' b', ' c')
        """
        require.that(isinstance(text, str) and bool(text), "text", "a string that is not empty", text)
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
        """Builds the vocabulary of a text from its token counts (`count_tokens`).

        Args:
            counts: how often each token occurs.
            level: see `from_text`, also for the other arguments.
            max_size: largest size, including the reserved tokens.
            min_count: smallest count of a token.
            coverage: smallest fraction of the text that the tokens make up.

        Raises:
            ArgumentError: an argument is out of range.

        Example:
            >>> counts = count_tokens("a a b", "word") + count_tokens("a c", "word")
            >>> Vocabulary.from_counts(counts, "word", max_size=6).tokens[4:]
            ('a', ' a')
        """
        require.one_of("level", level, RESERVED)
        reserved = RESERVED[level]
        require.that(
            max_size is None or (require.is_integer(max_size) and max_size > len(reserved)),
            "max_size",
            f"None or an integer above {len(reserved)}, the number of reserved tokens",
            max_size,
        )
        require.positive_integer("min_count", min_count)
        require.positive_fraction("coverage", coverage)
        if level == "char":
            return cls((*reserved, *_all_characters(counts, max_size, min_count, coverage)))
        kept = _frequent_words(counts, min_count, coverage)
        return cls((*reserved, *(kept if max_size is None else kept[: max_size - len(reserved)])))

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their ids."""
        return self._tokens

    @functools.cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text that each token adds when decoded, in the order of the ids; empty for `<pad>`, `<s>` and `<eos>`."""
        silent = {PAD, START, EOS}
        return tuple("" if token in silent else token for token in self._tokens)

    @property
    def level(self) -> Level:
        """What a token is: "char" or "word"."""
        return self._level

    @property
    def reserved(self) -> int:
        """The number of reserved tokens; their ids are 0 to `reserved - 1`."""
        return len(RESERVED[self._level])

    @property
    def pad_id(self) -> int:
        """The id of `<pad>`, which pads short lines and is masked in training: 0."""
        return 0

    @property
    def unk_id(self) -> int | None:
        """The id of `<unk>`, which replaces every word that is not in the vocabulary; None at the character level."""
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
        """The SHA-256 of the vocabulary file, 64 hexadecimal digits. Exported models store it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each token. No text contains a reserved token, because `<` and `>` are tokens of their own."""
        return {token: i for i, token in enumerate(self._tokens)}

    def __len__(self) -> int:
        return len(self._tokens)

    def __eq__(self, other: object) -> bool:
        return self._tokens == other._tokens if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._tokens)

    def __repr__(self) -> str:
        return f"<Vocabulary level={self._level} size={len(self)} sha256={self.sha256[:12]}>"

    def encode(self, text: str, *, name: str = "text") -> npt.NDArray[np.int32]:
        """Returns the token ids of a text, without `<s>` and `<eos>`.

        Args:
            text: any text. At the word level, words that are not in the vocabulary become `<unk>`.
            name: name of the caller's argument, for error messages.

        Returns:
            Token ids, `(tokens,)` int32.

        Raises:
            ArgumentError: `text` is not a string.
            TextError: the text has a lone surrogate, or, at the character level, characters that are not in the
                vocabulary; the message lists up to ten.
        """
        require.that(isinstance(text, str), name, "a string", text)
        return self._look_up(text, self.ids if self._level == "word" else self._character_ids, name)

    def encode_lines(self, text: str, *, name: str = "text") -> npt.NDArray[np.int32]:
        r"""Returns the token ids of each line that is not empty, each line followed by `<eos>`.

        Lines end in `\n` or `\r\n` (`keras_seq.data.tokens.split_lines`).

        Args:
            text: any text.
            name: name of the caller's argument, for error messages.

        Returns:
            Token ids, `(tokens,)` int32.

        Raises:
            TextError: see `encode`.

        Example:
            >>> Vocabulary.from_text("ab").encode_lines("a\n\nab\n")
            array([3, 2, 3, 4, 2], dtype=int32)
        """
        return self._look_up("".join([line + "\n" for line in split_lines(text) if line]), self._line_ids, name)

    def decode(self, ids: Iterable[int] | npt.NDArray[np.integer]) -> str:
        """Returns the text of token ids: the concatenation of the tokens.

        Args:
            ids: integer token ids, `(tokens,)`.

        Returns:
            The text. `<unk>` appears as itself; the other reserved tokens are left out.

        Raises:
            ArgumentError: the ids are not integers in one dimension, or an id is not in the vocabulary.
        """
        array = np.asarray(ids if isinstance(ids, np.ndarray | Sequence) else list(ids))
        if array.size == 0:
            return ""
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ArgumentError("ids", "integers in one dimension", f"{array.dtype} array of shape {array.shape}")
        outside = array[(array < 0) | (array >= len(self))]
        if outside.size:
            raise ArgumentError("ids", f"at least 0 and below {len(self)}", int(outside[0]))
        pieces = self.pieces
        return "".join([pieces[i] for i in array.tolist()])

    def to_bytes(self) -> bytes:
        """Returns the content of the vocabulary file (`keras_seq.data.vocabulary_file`)."""
        return file_bytes(self._tokens)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Vocabulary":
        """Returns the vocabulary of a vocabulary file, given its content.

        Raises:
            VocabularyError: the file is damaged; the message names the line.
        """
        return cls(parse_file(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary file. The file is either written completely or left as it was."""
        with replacing(pathlib.Path(path)) as partial:
            partial.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Reads a vocabulary file.

        Raises:
            VocabularyError: the file is damaged; the message names the file and the line.
            OSError: the file cannot be read.
        """
        data = pathlib.Path(path).read_bytes()
        try:
            return cls.from_bytes(data)
        except VocabularyError as error:
            raise VocabularyError(f"{os.fspath(path)}: {error}") from None

    def _look_up(self, text: str, ids: Any, name: str) -> npt.NDArray[np.int32]:
        """Returns the token ids of a text.

        Args:
            text: any text.
            ids: the id of each token by its string; at the character level by its code point.
            name: name of the caller's argument.
        """
        if self._level == "word":
            return np.fromiter(map(ids.get, split_words(text, name=name), itertools.repeat(1)), dtype=np.int32)
        points = code_points(text, name=name)
        found = ids[np.minimum(points, ids.size - 1)]
        unknown = found < 0
        if unknown.any():
            requirement = f"hold only characters of the vocabulary, which has {len(self) - self.reserved} of them"
            raise TextError(name, requirement, _list_characters(points[unknown]))
        return found

    @functools.cached_property
    def _character_ids(self) -> npt.NDArray[np.int32]:
        """The id of each code point up to one above the largest in the vocabulary, or -1, `(code points,)`."""
        known = [ord(token) for token in self._tokens[self.reserved :]]
        ids = np.full(max(known, default=-1) + 2, -1, np.int32)
        ids[known] = range(self.reserved, len(self))
        return ids

    @functools.cached_property
    def _line_ids(self) -> Any:
        """The table that `encode` uses, but with `<eos>` for the line feed, which is always a token of its own."""
        if self._level == "word":
            return {**self.ids, "\n": self.eos_id}
        known = self._character_ids
        ids = np.append(known, np.full(max(0, ord("\n") + 2 - known.size), -1, np.int32))
        ids[ord("\n")] = self.eos_id
        return ids


def _all_characters(counts: Mapping[str, int], max_size: int | None, min_count: int, coverage: float) -> list[str]:
    """Returns the characters in order of their code points; refuses arguments that would leave one out."""
    for name, value in (("min_count", min_count), ("coverage", coverage)):
        require.that(value == 1, name, "1 at the character level, which has no <unk>", value)
    size = len(RESERVED["char"]) + len(counts)
    require.that(
        max_size is None or size <= max_size,
        "max_size",
        f"at least {size} for the characters of this text, because the character level has no <unk>",
        max_size,
    )
    return sorted(counts)


def _frequent_words(counts: Mapping[str, int], min_count: int, coverage: float) -> list[str]:
    """Returns the words to keep, the most frequent first."""
    kept = sorted((token for token in counts if counts[token] >= min_count), key=lambda t: (-counts[t], t))
    if coverage == 1:
        return kept
    covered = itertools.accumulate(counts[token] for token in kept)
    enough = coverage * sum(counts.values())
    return kept[: 1 + sum(1 for _ in itertools.takewhile(lambda count: count < enough, covered))]


def _list_characters(points: npt.NDArray[np.uint32]) -> str:
    """Returns the first ten distinct characters by name: `'x' (U+0078), 'y' (U+0079)`."""
    distinct = list(dict.fromkeys(map(chr, points.tolist())))
    more = f" and {len(distinct) - 10} more" if len(distinct) > 10 else ""
    return ", ".join(f"{character!r} (U+{ord(character):04X})" for character in distinct[:10]) + more
