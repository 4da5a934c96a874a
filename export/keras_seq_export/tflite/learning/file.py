"""The file of what a model has learned on a device. Imports neither TensorFlow nor Keras.

Its numbers are little-endian (docs/formats.md describes the format for other languages):

    "KSLEARN1"                     8 bytes, the format
    SHA-256 of the model           32 bytes, `model_sha256` of the configuration
    vocabulary size, features      2 uint32
    tokens learned                 uint64
    log_shares                     3 float32
    weights                        float32, a row of `features` for each token of the vocabulary
    size of the own words, own words   uint32, UTF-8 text (`keras_seq.generation.own_words`)
    SHA-256 of all before          32 bytes
"""

import hashlib
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from keras_seq.errors import shortened
from keras_seq.files import explaining, read_regular, replacing
from keras_seq.generation.own_words import OwnWords
from keras_seq_export.errors import LearnedFileError
from keras_seq_export.learning_rule import CANDIDATES, Learned
from keras_seq_export.tflite.bundle import LEARNED_MAGIC

_FORMAT: Final = b"1"
_HEADER: Final = struct.Struct("<8s32sIIQ")
_SHARES: Final = np.dtype("<f4").itemsize * len(CANDIDATES)
_HASH: Final = hashlib.sha256().digest_size
MOST_TOKENS: Final = 2**64 - 1  # that the file can count
_MOST_BYTES: Final = 64 << 20  # the weights of 524,288 tokens, the most of a vocabulary, have 36 MB


class LearnedState(NamedTuple):
    """All that a model has learned.

    Attributes:
        learned: the weights and the shares.
        tokens: number of tokens that it has learned from.
        words: the words that its user has written.
    """

    learned: Learned
    tokens: int
    words: OwnWords


def write_learned(path: str | os.PathLike[str], model_sha256: str, state: LearnedState) -> None:
    """Writes a file, or replaces it, at once: after an error the old file is still there.

    Args:
        path: the file.
        model_sha256: hexadecimal SHA-256 of the model, from the configuration of its .tflite.
        state: what was learned.

    Raises:
        LearnedFileError: the file cannot be written.
    """
    with explaining(Path(path), LearnedFileError), replacing(Path(path)) as partial:
        partial.write_bytes(to_bytes(model_sha256, state))


def read_learned(path: str | os.PathLike[str], model_sha256: str, shape: tuple[int, int]) -> LearnedState:
    """Returns what a file holds, with everything verified.

    Args:
        path: the file.
        model_sha256: hexadecimal SHA-256 of the model that is to use it.
        shape: that of the weights of this model.

    Raises:
        LearnedFileError: the file cannot be read, is damaged, has another format, or belongs to another model.
    """
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise LearnedFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return from_bytes(content, model_sha256, shape)
    except ValueError as error:
        raise LearnedFileError(f"{path} {error}") from error


def to_bytes(model_sha256: str, state: LearnedState) -> bytes:
    """Returns the content of the file."""
    weights, log_shares = state.learned
    words = state.words.to_text().encode("utf-8")
    content = b"".join(
        (
            _HEADER.pack(LEARNED_MAGIC + _FORMAT, bytes.fromhex(model_sha256), *weights.shape, state.tokens),
            log_shares.astype("<f4").tobytes(),
            weights.astype("<f4").tobytes(),
            struct.pack("<I", len(words)),
            words,
        )
    )
    return content + hashlib.sha256(content).digest()


def from_bytes(content: bytes, model_sha256: str, shape: tuple[int, int]) -> LearnedState:
    """Returns what the content of a file says.

    Raises:
        ValueError: it is damaged, has another format or belongs to another model.
    """
    if not content.startswith(LEARNED_MAGIC):
        raise ValueError("is not a file of learned weights, which begins with KSLEARN1")
    if (found := content[len(LEARNED_MAGIC) : len(LEARNED_MAGIC + _FORMAT)]) != _FORMAT:
        raise ValueError(
            f"must have format 1. Received: {shortened(repr(found))}; update keras_seq, or delete it and learn again"
        )
    if len(content) < _HEADER.size + _HASH or hashlib.sha256(content[:-_HASH]).digest() != content[-_HASH:]:
        raise ValueError("is damaged: its SHA-256 differs; delete it and learn again")
    _, model, *found_shape, tokens = _HEADER.unpack_from(content)
    if model.hex() != model_sha256:
        raise ValueError("belongs to another model: use that model, or learn again in another file")
    body = content[_HEADER.size : -_HASH]
    weights_end = _SHARES + 4 * shape[0] * shape[1]
    size = int.from_bytes(body[weights_end : weights_end + 4], "little")
    if tuple(found_shape) != shape or len(body) != weights_end + 4 + size:
        raise ValueError(f"is damaged: it must hold {shape[0]} x {shape[1]} weights; delete it and learn again")
    numbers = np.frombuffer(body[:weights_end], "<f4").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("is damaged: its numbers must be finite; delete it and learn again")
    log_shares, weights = np.split(numbers, [len(CANDIDATES)])
    try:
        words = OwnWords.from_text(body[weights_end + 4 :].decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("is damaged: its own words are not UTF-8; delete it and learn again") from error
    except ValueError as error:
        raise ValueError(f"is damaged: {error}; delete it and learn again") from error
    return LearnedState(Learned(weights.reshape(shape), log_shares), tokens, words)
