"""A text as token ids on disk, in TFRecord files: for a corpus larger than memory.

Every record of a file but the last holds `RECORD` tokens, little-endian, in the smallest unsigned type that has room for
the vocabulary. So the files are read by any reader of TFRecord (`tf.io.decode_raw`), and here, since the place of each token
is known, without one: a part of the text is a part of the file, mapped into memory.
"""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError

RECORD = 2**15  # tokens
_FRAME = 16  # bytes of TFRecord's own in each record: length (8), its checksum (4), and behind the tokens theirs (4)


class EncodedText:
    """The token ids of a text in files, as a sequence of which slices can be read.

    Args:
        files: in the order of the text, each with the number of its tokens.
        vocabulary: of the ids.
        by_line: whether every line is a sequence of its own, ended by `<eos>`.

    Raises:
        CorpusError: a file is missing or has another length than so many tokens.

    Example:
        >>> text = EncodedText([], Vocabulary.from_text("ab"))
        >>> len(text), text[0:10]
        (0, array([], dtype=int32))
    """

    def __init__(self, files: Sequence[tuple[Path, int]], vocabulary: Vocabulary, by_line: bool = False):
        self.vocabulary, self.by_line = vocabulary, by_line
        self._dtype = token_type(vocabulary)
        self._parts = [_Part(path, tokens, self._dtype) for path, tokens in files]
        self._begins = np.array([0, *itertools.accumulate(tokens for _, tokens in files)])

    def __len__(self) -> int:
        return int(self._begins[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns ids `text[begin:end]`, int32."""
        begin, end, _ = part.indices(len(self))
        first = int(np.searchsorted(self._begins, begin, side="right")) - 1
        pieces = [np.zeros(0, np.int32)]
        for one, offset in zip(self._parts[first:], self._begins[first:], strict=False):
            if offset >= end:
                break
            pieces.append(one.read(max(begin - offset, 0), end - offset))
        return np.concatenate(pieces)

    @property
    def sha256(self) -> str:
        """A hash by which another text is known: of each file's length and its first tokens, not of all."""
        found = hashlib.sha256()
        for begin, end in itertools.pairwise(self._begins.tolist()):
            found.update(f"{end - begin} ".encode() + self[begin : min(end, begin + RECORD)].tobytes())
        return found.hexdigest()


class _Part:
    """One file."""

    def __init__(self, path: Path, tokens: int, dtype: np.dtype):
        whole, rest = divmod(tokens, RECORD)
        expected = file_size(tokens, dtype)
        size = path.stat().st_size if path.exists() else None
        if size != expected:
            found = "is missing" if size is None else f"has {size:,} bytes instead of {expected:,}"
            raise CorpusError(
                f"The encoded corpus must be whole, but {path} {found}; encode the text again to mend it."
            )
        record = [("begin", "V12"), ("tokens", dtype, RECORD), ("end", "V4")]
        self._whole, self._dtype = whole, dtype
        self._records = np.memmap(path, record, "r", shape=whole) if whole else None
        self._rest = np.memmap(path, dtype, "r", expected - 4 - rest * dtype.itemsize, rest) if rest else None

    def read(self, begin: int, end: int) -> np.ndarray:
        """Returns the ids of a part of the file, as far as there are any, int32."""
        pieces = [np.zeros(0, self._dtype)]
        for number in range(begin // RECORD, (end - 1) // RECORD + 1):
            if number < self._whole:
                assert self._records is not None
                tokens = self._records["tokens"][number]
            elif number == self._whole and self._rest is not None:
                tokens = self._rest
            else:
                break
            pieces.append(tokens[max(begin - number * RECORD, 0) : end - number * RECORD])
        return np.concatenate(pieces).astype(np.int32)


def places(ids: np.ndarray | EncodedText, token: int, at_once: int = 2**22) -> np.ndarray:
    """Returns where a token stands, `(places,)` int64.

    >>> places(np.array([3, 4, 3]), 3)
    array([0, 2])
    """
    blocks = (np.flatnonzero(ids[begin : begin + at_once] == token) + begin for begin in range(0, len(ids), at_once))
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def tokens_in(size: int, dtype: np.dtype) -> int | None:
    """Returns how many tokens a file of so many bytes has; None if it ends within one."""
    whole, rest = divmod(size, RECORD * dtype.itemsize + _FRAME)
    tokens = whole * RECORD + max(0, rest - _FRAME) // dtype.itemsize
    return tokens if file_size(tokens, dtype) == size else None


def file_size(tokens: int, dtype: np.dtype) -> int:
    """Returns how many bytes a file of so many tokens has."""
    return tokens * dtype.itemsize + -(-tokens // RECORD) * _FRAME


def token_type(vocabulary: Vocabulary) -> np.dtype:
    """Returns the type of a token on disk: uint8, uint16 or uint32, little-endian.

    >>> token_type(Vocabulary.from_text("ab"))
    dtype('uint8')
    """
    return np.min_scalar_type(len(vocabulary) - 1).newbyteorder("<")
