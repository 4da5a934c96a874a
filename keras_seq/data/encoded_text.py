"""A text as token ids on disk, in TFRecord files, for a corpus larger than memory.

Every record except the last of a file holds `RECORD` tokens, little-endian, in the smallest unsigned type that can hold
the largest id of the vocabulary. Any TFRecord reader can read the files (`tf.io.decode_raw`). Because the position of
every token is known, this module reads them without one: it maps the files into memory and reads slices.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError
from keras_seq.files import replacing

RECORD = 2**15  # tokens
# Bytes of TFRecord framing per record: length (8) and its checksum (4) before the tokens, checksum (4) after.
_FRAME = 16


class EncodedText:
    """The token ids of a text in files. Slices are read from disk.

    Args:
        files: the path and the number of tokens of each file, in the order of the text.
        vocabulary: vocabulary of the ids.
        by_line: whether every line is a sequence of its own, ended by `<eos>`.

    Raises:
        CorpusError: a file is missing, or its size does not match its number of tokens.

    Example:
        >>> text = EncodedText([], Vocabulary.from_text("ab"))
        >>> len(text), text[0:10]
        (0, array([], dtype=int32))
    """

    def __init__(self, files: Sequence[tuple[Path, int]], vocabulary: Vocabulary, by_line: bool = False):
        self.vocabulary, self.by_line = vocabulary, by_line
        dtype = token_type(vocabulary)
        self._files = [_TokenFile(path, tokens, dtype) for path, tokens in files]
        self._begins = np.array([0, *itertools.accumulate(tokens for _, tokens in files)])

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
        """A hash of the length and first `RECORD` ids of each file; it identifies the text without reading it all."""
        found = hashlib.sha256()
        for begin, end in itertools.pairwise(self._begins.tolist()):
            found.update(f"{end - begin} ".encode() + self[begin : min(end, begin + RECORD)].tobytes())
        return found.hexdigest()


class _TokenFile:
    """One file of token ids, mapped into memory."""

    def __init__(self, path: Path, tokens: int, dtype: np.dtype):
        whole, rest = divmod(tokens, RECORD)
        expected = file_size(tokens, dtype)
        size = path.stat().st_size if path.exists() else None
        if size != expected:
            found = "is missing" if size is None else f"has {size:,} bytes instead of {expected:,}"
            raise CorpusError(f"the encoded corpus is damaged: {path} {found}; encode the text again to repair it")
        record = [("begin", "V12"), ("tokens", dtype, RECORD), ("end", "V4")]
        self._whole, self._dtype = whole, dtype
        self._records = np.memmap(path, record, "r", shape=whole) if whole else None
        self._rest = np.memmap(path, dtype, "r", expected - 4 - rest * dtype.itemsize, rest) if rest else None

    def read(self, begin: int, end: int) -> np.ndarray:
        """Returns the ids from `begin` to `end` or to the end of the file, int32."""
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


@overload
def token_ids(text: str, vocabulary: Vocabulary, *, by_line: bool) -> np.ndarray: ...


@overload
def token_ids(text: str | EncodedText, vocabulary: Vocabulary, *, by_line: bool) -> np.ndarray | EncodedText: ...


def token_ids(text: str | EncodedText, vocabulary: Vocabulary, *, by_line: bool) -> np.ndarray | EncodedText:
    """Returns the token ids of a text; a text that is encoded on disk is returned as it is.

    Args:
        text: a text, or one encoded on disk with the same vocabulary and `by_line`.
        vocabulary: its vocabulary.
        by_line: whether every line is a sequence of its own, ended by `<eos>`.

    Raises:
        CorpusError: the encoded text has another vocabulary or another `by_line`.
        TextError: the text has characters that are not in the vocabulary.
    """
    if isinstance(text, str):
        return vocabulary.encode_lines(text) if by_line else vocabulary.encode(text)
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


def write_tokens(path: Path, blocks: Iterable[np.ndarray], dtype: np.dtype) -> None:
    """Writes a file of token ids. The file appears under its name only when it is complete.

    Args:
        path: the file to write.
        blocks: the ids in blocks of any length, of type `dtype`.
        dtype: see `token_type`.

    Raises:
        CorpusError: the file cannot be written.
    """
    import tensorflow as tf

    tokens = 0
    try:
        with replacing(path) as partial:
            with tf.io.TFRecordWriter(str(partial)) as file:
                for record in _in_records(blocks, dtype):
                    file.write(record.tobytes())
                    tokens += len(record)
            if stored_tokens(partial, dtype) != tokens:
                raise CorpusError(
                    f"{path} was not written completely; free some disk space and encode the text again to continue"
                )
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message.rpartition("; ")[2]
        raise CorpusError(f"{path} cannot be written: {reason}; encode the text again to continue") from error


def _in_records(blocks: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yields the ids of all blocks in records of `RECORD` ids; the last may be shorter."""
    rest = np.zeros(0, dtype)
    for block in blocks:
        ids = np.concatenate([rest, block])
        whole = len(ids) // RECORD * RECORD
        for begin in range(0, whole, RECORD):
            yield ids[begin : begin + RECORD]
        rest = ids[whole:]
    if len(rest):
        yield rest


def stored_tokens(path: Path, dtype: np.dtype) -> int | None:
    """Returns the number of tokens in a file; None if the file is missing or ends within a token or record."""
    return tokens_of_size(path.stat().st_size, dtype) if path.exists() else None


def tokens_of_size(size: int, dtype: np.dtype) -> int | None:
    """Returns the number of tokens in a file of `size` bytes; None if no complete file has this size."""
    whole, rest = divmod(size, RECORD * dtype.itemsize + _FRAME)
    tokens = whole * RECORD + max(0, rest - _FRAME) // dtype.itemsize
    return tokens if file_size(tokens, dtype) == size else None


def file_size(tokens: int, dtype: np.dtype) -> int:
    """Returns the size in bytes of a file of `tokens` tokens."""
    return tokens * dtype.itemsize + -(-tokens // RECORD) * _FRAME


def token_type(vocabulary: Vocabulary) -> np.dtype:
    """Returns the type of a token on disk: uint8, uint16 or uint32, little-endian.

    Example:
        >>> token_type(Vocabulary.from_text("ab"))
        dtype('uint8')
    """
    return np.min_scalar_type(len(vocabulary) - 1).newbyteorder("<")
