"""A text as token ids on disk (`keras_seq.data.token_files`), for a corpus larger than memory."""

import hashlib
import itertools
from collections.abc import Sequence
from typing import overload

import numpy as np

from keras_seq.data.token_files import MappedTokens, TokenFile, token_type
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError


class EncodedText:
    """The token ids of a text in files. Slices are read from disk.

    Args:
        files: its files, in the order of the text; they are not verified (`keras_seq.data.token_files.verified`).
        vocabulary: vocabulary of the ids.
        by_line: whether every line is a sequence of its own, ended by `<eos>`.

    Raises:
        CorpusError: a file is missing, or its size does not match its number of tokens.

    Example:
        >>> text = EncodedText([], Vocabulary.from_text("ab"))
        >>> len(text), text[0:10]
        (0, array([], dtype=int32))
    """

    def __init__(self, files: Sequence[TokenFile], vocabulary: Vocabulary, by_line: bool = False):
        self.vocabulary, self.by_line = vocabulary, by_line
        dtype = token_type(vocabulary)
        self._files = [MappedTokens(file, dtype) for file in files]
        self._begins = np.array([0, *itertools.accumulate(file.tokens for file in files)])
        self._digests = [file.sha256 for file in files]

    def __len__(self) -> int:
        return int(self._begins[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns the ids `text[begin:end]`, `(end - begin,)` int32."""
        begin, end, _ = part.indices(len(self))
        first = int(np.searchsorted(self._begins, begin, side="right")) - 1
        pieces = [np.zeros(0, np.int32)]
        for file, offset in zip(self._files[first:], self._begins[first:], strict=False):
            if offset >= end:
                break
            pieces.append(file.read(max(begin - offset, 0), end - offset))
        return np.concatenate(pieces)

    @property
    def sha256(self) -> str:
        """A hash of the digests of all files; it identifies the text without reading it again."""
        return hashlib.sha256(" ".join(self._digests).encode()).hexdigest()


@overload
def token_ids(text: str, vocabulary: Vocabulary, *, by_line: bool, name: str = "text") -> np.ndarray: ...


@overload
def token_ids(
    text: str | EncodedText, vocabulary: Vocabulary, *, by_line: bool, name: str = "text"
) -> np.ndarray | EncodedText: ...


def token_ids(
    text: str | EncodedText, vocabulary: Vocabulary, *, by_line: bool, name: str = "text"
) -> np.ndarray | EncodedText:
    """Returns the token ids of a text; a text that is encoded on disk is returned as it is.

    Args:
        text: a text, or one encoded on disk with the same vocabulary and `by_line`.
        vocabulary: its vocabulary.
        by_line: whether every line is a sequence of its own, ended by `<eos>`.
        name: name of the caller's argument, for error messages.

    Raises:
        CorpusError: the encoded text has another vocabulary or another `by_line`.
        TextError: the text has characters that are not in the vocabulary.
    """
    if isinstance(text, str):
        return vocabulary.encode_lines(text, name=name) if by_line else vocabulary.encode(text, name=name)
    if text.vocabulary != vocabulary:
        raise CorpusError(
            "`vocabulary` must be that of the encoded text, its attribute `vocabulary`; another was received"
        )
    if text.by_line != by_line:
        raise CorpusError(
            f"the text must be encoded with by_line={by_line}, but it was encoded with by_line={text.by_line}; "
            f"read it with `{'lines' if text.by_line else 'streams'}`, or encode it again"
        )
    return text


def token_counts(ids: np.ndarray | EncodedText, vocabulary_size: int, block: int = 2**22) -> np.ndarray:
    """Returns how often each token occurs, `(vocabulary_size,)` int64.

    Args:
        ids: token ids.
        vocabulary_size: number of tokens in the vocabulary.
        block: number of ids that are read at a time.

    Example:
        >>> token_counts(np.array([3, 4, 3]), vocabulary_size=6)
        array([0, 0, 0, 2, 1, 0])
    """
    blocks = (ids[begin : begin + block] for begin in range(0, len(ids), block))
    return sum((np.bincount(one, minlength=vocabulary_size) for one in blocks), np.zeros(vocabulary_size, np.int64))


def positions_of(ids: np.ndarray | EncodedText, token: int, block: int = 2**22) -> np.ndarray:
    """Returns the positions at which a token occurs, `(occurrences,)` int64.

    Args:
        ids: token ids.
        token: the id to look for.
        block: number of ids that are read at a time.

    Example:
        >>> positions_of(np.array([3, 4, 3]), 3)
        array([0, 2])
    """
    blocks = (np.flatnonzero(ids[begin : begin + block] == token) + begin for begin in range(0, len(ids), block))
    return np.concatenate([np.zeros(0, np.int64), *blocks])
