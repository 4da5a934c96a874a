"""The checksum of TFRecord files, CRC-32C, of many records at once.

TensorFlow's own reader of TFRecord files checks it as well. It is not used, because it starts TensorFlow's runtime,
after which workers can no longer be configured.

A CRC that starts from zero is linear. Each record is therefore cut into short chunks, whose CRCs are computed side by
side. Then those of neighbours are combined, again and again, until one is left.
"""

import functools

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, with the bits reversed
_CHUNK = 64  # bytes
_ONES = 0xFFFFFFFF  # what a CRC-32C begins with, and what its end is inverted with

_Crcs = npt.NDArray[np.uint32]


def masked_crc32c(records: npt.NDArray[np.uint8]) -> _Crcs:
    """Returns the checksums of records as TFRecord files store them.

    Args:
        records: the bytes of records of the same length, `(records, bytes)`.

    Returns:
        `(records,)` uint32.

    Example:
        >>> masked_crc32c(np.frombuffer(b"123456789", np.uint8)[None]).tolist() == [
        ...     ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32
        ... ]
        True
    """
    count, size = records.shape
    doublings = max(0, (size - 1) // _CHUNK).bit_length()
    padded = np.zeros((count, _CHUNK << doublings), np.uint8)  # Zeros at the beginning do not change the CRC.
    padded[:, padded.shape[1] - size :] = records
    chunks = padded.reshape(-1, _CHUNK)
    crcs = np.zeros(len(chunks), np.uint32)
    for column in range(_CHUNK):
        crcs = _table()[(crcs ^ chunks[:, column]) & 0xFF] ^ (crcs >> 8)
    for doubling in range(doublings):
        crcs = _after_zeros(crcs[::2], _CHUNK << doubling) ^ crcs[1::2]
    found = crcs ^ np.uint32(_after_ones(size) ^ _ONES)
    return ((found >> 15 | found << 17) + np.uint32(0xA282EAD8)).astype(np.uint32)


@functools.cache
def _table() -> _Crcs:
    """Returns the CRC of each byte, `(256,)`."""
    table = np.arange(256)
    for _ in range(8):
        table = table >> 1 ^ (table & 1) * _POLYNOMIAL
    return table.astype(np.uint32)


@functools.cache
def _bits_after_zeros(count: int) -> _Crcs:
    """Returns what each bit of a CRC becomes when `count` zero bytes follow, `(32,)`; `count` is a power of two."""
    if count > 1:
        return _after_zeros(_bits_after_zeros(count // 2), count // 2)
    bits = np.array([1 << bit for bit in range(32)], np.uint32)
    return _table()[bits & 0xFF] ^ (bits >> 8)


def _after_zeros(crcs: _Crcs, count: int) -> _Crcs:
    """Returns what CRCs become when `count` zero bytes follow."""
    found = np.zeros_like(crcs)
    for bit, becomes in enumerate(_bits_after_zeros(count)):
        found ^= (crcs >> bit & 1) * becomes
    return found


@functools.cache
def _after_ones(count: int) -> int:
    """Returns the CRC of `count` zero bytes that starts from ones; it is what this start adds to any CRC."""
    crc = np.array([_ONES], np.uint32)
    for bit in range(count.bit_length()):
        if count >> bit & 1:
            crc = _after_zeros(crc, 1 << bit)
    return int(crc[0])
