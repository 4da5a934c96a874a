"""`Vocabulary`: text to token ids and back. Imports NumPy, never TensorFlow.

A vocabulary is a list of tokens (`keras_seq.data.tokens`); the id of a token is its index in the list.
"""

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seq import require
from keras_seq.data.lookup_layers import tokens_of
from keras_seq.data.token_choice import chosen_tokens
from keras_seq.data.token_lookup import TokenLookup
from keras_seq.data.tokens import (
    EOS,
    KERAS_UNK,
    PAD,
    RESERVED,
    START,
    UNK,
    WHITE_SPACE,
    AnyLevel,
    Level,
    count_tokens,
    find_invalid_token,
    level_of,
    reserved_ids,
)
from keras_seq.data.vocabulary_file import MOST_BYTES, MOST_TOKENS, file_bytes, parse_file
from keras_seq.errors import ArgumentError, VocabularyError
from keras_seq.files import read_regular, replacing


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
            tokens: `<pad>`, `<s>`, `<eos>` followed by single characters; or `<pad>`, `<unk>`, `<s>`, `<eos>` followed
                by word tokens (each a full match of `WORD_PATTERN`); or the tokens of a vocabulary that was made
                elsewhere, see `from_tokens`. They decide the level (`keras_seq.data.tokens`).

        Raises:
            ArgumentError: a token occurs twice, or can never occur in a text; or there are more than 4,194,304 tokens.
        """
        if isinstance(tokens, str):
            raise ArgumentError("tokens", "a sequence of strings", tokens[:40])
        self._tokens = tuple(tokens)
        if len(self._tokens) > MOST_TOKENS:
            few = f"at most {MOST_TOKENS:,} tokens; leave out rare words with `max_size`"
            raise ArgumentError("tokens", few, f"{len(self._tokens):,} tokens")
        if (invalid := find_invalid_token(self._tokens)) is not None:
            index, expected = invalid
            received = self._tokens[index] if index < len(self._tokens) else None
            raise ArgumentError(f"tokens[{index}]", expected, received)
        self._level = level_of(self._tokens)
        self._reserved = reserved_ids(self._tokens)
        self._lookup = TokenLookup(self._tokens, self._level, self._reserved)

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
        return cls(chosen_tokens(counts, level, max_size, min_count, coverage))

    @classmethod
    def from_tokens(cls, tokens: Sequence[str]) -> "Vocabulary":
        """Returns the vocabulary that a model was trained with elsewhere, so that its tokens keep their ids.

        Texts are split into characters if all tokens but the reserved ones are single characters. Otherwise they are
        split at white space, and decoded words are joined with one space. A token that is not in the vocabulary becomes
        the unknown token; if there is none, it is an error.

        Args:
            tokens: the tokens in the order of their ids. The reserved tokens may be at any ids: `<pad>` or the empty
                string for padding, `[UNK]` or `<unk>` for unknown tokens, `<s>` before a text and `<eos>` after it. Some
                may be missing; `keras_seq.add_reserved_tokens` adds those that generation needs.

        Raises:
            ArgumentError: a token occurs twice or can never occur in a text; or the tokens begin with `<pad>`, `<unk>`,
                `<s>`, `<eos>` and none begins with a space, so that they can be word tokens (`from_text`) or not.

        Example:
            >>> vocabulary = Vocabulary.from_tokens(["", "[UNK]", "the", "cat", "sat."])
            >>> vocabulary.encode("the dog sat.").tolist(), vocabulary.decode([2, 3])
            ([2, 1, 4], 'the cat')
        """
        if not isinstance(tokens, str):
            # Strings of NumPy become those of Python.
            tokens = [(str(token) or PAD) if isinstance(token, str) else token for token in tokens]
        vocabulary = cls(tokens)
        words = vocabulary.tokens[len(RESERVED["word"]) :]
        if vocabulary.level == "word" and words and not any(word.startswith(" ") for word in words):
            raise ArgumentError(
                "tokens",
                f"unambiguous, but after {', '.join(RESERVED['word'])} they are words with the space before them, and none "
                f"has a space: write {KERAS_UNK} instead of {UNK} if texts are split at white space or into characters, or "
                "call `Vocabulary(tokens)` if they are split by `WORD_PATTERN`",
                words[:3],
            )
        return vocabulary

    @classmethod
    def from_layer(cls, layer: Any, start: str | None = None, eos: str | None = None) -> "Vocabulary":
        """Returns the vocabulary of a Keras layer that looks up ids, so that a model trained with it keeps its ids.

        Args:
            layer: an adapted `keras.layers.StringLookup`, or `keras.layers.TextVectorization` with `standardize=None`.
                The texts of a `StringLookup` are split as `from_tokens` says.
            start: the token that stands before every text, such as "[START]"; it becomes `<s>`. None: the layer has
                none, or it is `<s>`.
            eos: the token that stands after every text, such as "[END]"; it becomes `<eos>`. None: the layer has none,
                or it is `<eos>`.

        Raises:
            ArgumentError: `layer` is another layer, or has a setting that cannot be reproduced; or it lacks `start` or
                `eos`.

        Example:
            >>> import keras
            >>> layer = keras.layers.TextVectorization(standardize=None)
            >>> layer.adapt(["[START] the cat sat. [END]"])
            >>> vocabulary = Vocabulary.from_layer(layer, start="[START]", eos="[END]")
            >>> vocabulary.encode("the cat").tolist() == layer(["the cat"]).numpy()[0].tolist()
            True
        """
        return cls.from_tokens(tokens_of(layer, {START: start, EOS: eos}))

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their ids."""
        return self._tokens

    @functools.cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text that each token adds after another token; empty for `<pad>`, `<s>` and `<eos>`."""
        silent = {self._reserved[name] for name in (PAD, START, EOS) if name in self._reserved}
        return tuple("" if i in silent else self._separator + token for i, token in enumerate(self._tokens))

    @property
    def _separator(self) -> str:
        """What is between two tokens of a text."""
        return " " if self._level == "whitespace" else ""

    @property
    def level(self) -> AnyLevel:
        """What a token is: "char", "word" or "whitespace" (`keras_seq.data.tokens`)."""
        return self._level

    @property
    def reserved_ids(self) -> tuple[int, ...]:
        """The ids of the reserved tokens, in ascending order."""
        return tuple(sorted(self._reserved.values()))

    @property
    def text_ids(self) -> npt.NDArray[np.int32]:
        """The ids of the tokens that are not reserved, in ascending order, int32."""
        return self._lookup.text_ids

    @property
    def pad_id(self) -> int:
        """The id of `<pad>`, which pads short lines and is masked in training; ArgumentError if it is missing."""
        return self._id_of(PAD)

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token, which replaces what is not in the vocabulary; None if there is none."""
        return self._reserved.get(UNK)

    @property
    def start_id(self) -> int:
        """The id of `<s>`, the first input of every sequence; ArgumentError if it is missing."""
        return self._id_of(START)

    @property
    def eos_id(self) -> int:
        """The id of `<eos>`, the end of a line or text; ArgumentError if it is missing."""
        return self._id_of(EOS)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of `<pad>`, `<s>` and `<eos>` that the vocabulary lacks; `keras_seq.add_reserved_tokens` adds them."""
        return tuple(name for name in (PAD, START, EOS) if name not in self._reserved)

    def require_reserved(self) -> None:
        """Requires that the vocabulary has the reserved tokens that generation needs.

        Raises:
            ArgumentError: one is missing; the message names the function that adds it.
        """
        if self.missing:
            adds = "`ks.add_reserved_tokens(model, vocabulary)` adds what is missing to both"
            raise ArgumentError("vocabulary", f"one that has {', '.join(self.missing)}; {adds}", self)

    def _id_of(self, name: str) -> int:
        if name in self.missing:
            self.require_reserved()
        return self._reserved[name]

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the vocabulary file, 64 hexadecimal digits. Exported models store it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each token, reserved or not."""
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
            text: any text. Tokens that are not in the vocabulary become the unknown token, if it has one.
            name: name of the caller's argument, for error messages.

        Returns:
            Token ids, `(tokens,)` int32.

        Raises:
            ArgumentError: `text` is not a string.
            TextError: the text has a lone surrogate; or tokens that are not in the vocabulary, which has no unknown
                token; or, split at white space, a word that is spelled like `<pad>`, `<s>` or `<eos>`. The message lists
                up to ten.
        """
        require.that(isinstance(text, str), name, "a string", text)
        return self._lookup.ids_of(text, name)

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
        require.that(isinstance(text, str), name, "a string", text)
        self._id_of(EOS)
        return self._lookup.ids_of_lines(text, name)

    def decode(self, ids: Iterable[int] | npt.NDArray[np.integer], after: str = "") -> str:
        """Returns the text of token ids: the tokens one after the other, with a space between words without spaces.

        Args:
            ids: integer token ids, `(tokens,)`.
            after: the text that they continue. If it does not end with white space, words without spaces begin with one.

        Returns:
            The text. The unknown token appears as itself; the other reserved tokens are left out.

        Raises:
            ArgumentError: the ids are not integers in one dimension, or an id is not in the vocabulary.

        Example:
            >>> vocabulary = Vocabulary.from_tokens(["the", "cat", "sat."])
            >>> vocabulary.decode([0, 1]) + vocabulary.decode([2], after="the cat")
            'the cat sat.'
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
        text = "".join([pieces[i] for i in array.tolist()])
        return text if after and after[-1] not in WHITE_SPACE else text.removeprefix(self._separator)

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
        data = read_regular(path, MOST_BYTES)
        try:
            return cls.from_bytes(data)
        except VocabularyError as error:
            raise VocabularyError(f"{os.fspath(path)}: {error}") from None
