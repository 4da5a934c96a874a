"""Files of token ids, in the format TFRecord: written, verified, and read.

Every record except the last of a file holds `RECORD` tokens, little-endian, in the smallest unsigned type that can hold
the largest id of the vocabulary. Any TFRecord reader can read the files (`tf.io.decode_raw`). Because the position of
every token is known, this module reads them without one: it maps the files into memory and reads slices.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from keras_seq.data.crc32c import masked_crc32c
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError
from keras_seq.files import open_at_once, replacing, why_not_written

RECORD = 2**15  # tokens
# Bytes of TFRecord framing per record: length (8) and its checksum (4) before the tokens, checksum (4) after.
_FRAME = 16
_BLOCK = 64  # records that are verified at a time


class TokenFile(NamedTuple):
    """A file of token ids.

    Attributes:
        path: the file.
        tokens: its number of tokens.
        sha256: the SHA-256 of its content, 64 hexadecimal digits.
    """

    path: Path
    tokens: int
    sha256: str


def write_tokens(path: Path, blocks: Iterable[np.ndarray], dtype: np.dtype) -> TokenFile:
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
            if partial.stat().st_size != file_size(tokens, dtype):
                raise OSError("not all of it was written; perhaps the disk is full")
            with partial.open("rb") as written:
                sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    except (OSError, tf.errors.OpError) as error:
        if not isinstance(error, OSError):
            error = OSError(error.message.rpartition("; ")[2])
        raise CorpusError(why_not_written(path, error)) from error
    return TokenFile(path, tokens, sha256)


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


def verified(path: Path, vocabulary: Vocabulary, tokens: int | None = None, sha256: str | None = None) -> TokenFile:
    """Reads a whole file of token ids, and requires that it is undamaged.

    Args:
        path: the file.
        vocabulary: the vocabulary of the ids.
        tokens: the number of tokens; None for what the size of the file says.
        sha256: the digest of the file. If it is None, or another, the checksums of the records are verified.

    Raises:
        CorpusError: it is missing, not a regular file, or damaged, or has an id outside the vocabulary. The message names
            the file, and the record if it is known.
    """
    dtype = token_type(vocabulary)
    try:
        with open_at_once(path) as file:
            size = _require_size(path, file.fileno(), tokens, dtype)
            found = hashlib.sha256()
            for number, block in _blocks_of(file, dtype):
                found.update(block)
                _require_known(path, number, block, vocabulary, dtype)
            if found.hexdigest() != sha256:
                file.seek(0)
                for number, block in _blocks_of(file, dtype):
                    _require_checksums(path, number, block, dtype)
    except FileNotFoundError:
        raise _damaged(path, "is missing") from None
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    if sha256 is not None and found.hexdigest() != sha256:
        raise _damaged(path, "is not the file that was written")
    return TokenFile(path, size, found.hexdigest())


def _damaged(path: Path, problem: str) -> CorpusError:
    return CorpusError(f"the encoded corpus is damaged: {path} {problem}; encode the text again to repair it")


def _require_size(path: Path, opened: int, tokens: int | None, dtype: np.dtype) -> int:
    """Requires that an open file is a regular one of the right size; returns its number of tokens."""
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode):
        raise _damaged(path, "is a pipe or a device")
    if tokens is None:
        tokens = tokens_of_size(status.st_size, dtype)
        if tokens is None:
            raise _damaged(path, f"has {status.st_size:,} bytes, so it ends within a record")
    if status.st_size != file_size(tokens, dtype):
        raise _damaged(path, f"has {status.st_size:,} bytes instead of {file_size(tokens, dtype):,}")
    return tokens


def _blocks_of(file: IO[bytes], dtype: np.dtype) -> Iterator[tuple[int, bytes]]:
    """Yields the records of a file in blocks, each with the number of its first record, counted from 1."""
    number = 1
    while block := file.read(_BLOCK * (RECORD * dtype.itemsize + _FRAME)):
        yield number, block
        number += _BLOCK


def _records_of(block: bytes, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yields the whole records of a block, `(records,)`, and a shorter one at its end, `(1,)`."""
    form = _record_type(RECORD, dtype)
    whole, rest = divmod(len(block), form.itemsize)
    if whole:
        yield np.frombuffer(block, form, whole)
    if rest:
        yield np.frombuffer(block[-rest:], _record_type((rest - _FRAME) // dtype.itemsize, dtype))


def _require_known(path: Path, number: int, block: bytes, vocabulary: Vocabulary, dtype: np.dtype) -> None:
    """Requires that the ids in a block are in the vocabulary."""
    for records in _records_of(block, dtype):
        if int(records["tokens"].max()) >= len(vocabulary):
            wrong = records["tokens"] >= len(vocabulary)
            first = int(wrong.any(axis=1).argmax())
            problem = f"has the id {records['tokens'][wrong][0]} in record {number + first:,}, but the vocabulary has "
            raise _damaged(path, f"{problem}{len(vocabulary):,} tokens")
        number += len(records)


def _require_checksums(path: Path, number: int, block: bytes, dtype: np.dtype) -> None:
    """Requires that the lengths and checksums in a block are right."""
    for records in _records_of(block, dtype):
        lengths = np.ascontiguousarray(records["length"]).view(np.uint8).reshape(len(records), 8)
        bytes_of_tokens = np.ascontiguousarray(records["tokens"]).view(np.uint8)
        right = (
            (records["length"] == bytes_of_tokens.shape[1])
            & (masked_crc32c(lengths) == records["length_crc"])
            & (masked_crc32c(bytes_of_tokens) == records["crc"])
        )
        if not right.all():
            raise _damaged(path, f"has a wrong checksum in record {number + int(right.argmin()):,}")
        number += len(records)


class MappedTokens:
    """A file of token ids, mapped into memory.

    Raises:
        CorpusError: the file is missing, or its size does not match its number of tokens.
    """

    def __init__(self, file: TokenFile, dtype: np.dtype):
        self._whole, rest = divmod(file.tokens, RECORD)
        self._dtype = dtype
        try:
            with open_at_once(file.path) as opened:
                _require_size(file.path, opened.fileno(), file.tokens, dtype)
        except OSError:
            raise _damaged(file.path, "is missing") from None
        begin = file_size(self._whole * RECORD, dtype)
        self._records = (
            np.memmap(file.path, _record_type(RECORD, dtype), "r", shape=self._whole) if self._whole else None
        )
        self._rest = np.memmap(file.path, _record_type(rest, dtype), "r", begin, 1)["tokens"][0] if rest else None

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


def _record_type(tokens: int, dtype: np.dtype) -> np.dtype:
    """Returns the type of a record with its framing."""
    return np.dtype([("length", "<u8"), ("length_crc", "<u4"), ("tokens", dtype, (tokens,)), ("crc", "<u4")])
