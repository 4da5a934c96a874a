"""Threefry-2x32-20, the random stream of every runtime: one uniform number per token.

Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", 2011. The generator is counter-based: a
number depends only on the seed and its position, so there is no generator state to carry from token to token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_seq import require

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
ROUNDS = 20
PARITY = 0x1BD11BDA


def threefry_2x32(key: Sequence[int], counter: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two uint32 words of Threefry-2x32 with 20 rounds.

    Args:
        key: two uint32 words.
        counter: two arrays of uint32 words, of the same shape.

    Example:
        >>> [f"{int(word):08x}" for word in threefry_2x32((0, 0), (0, 0))]
        ['6b200159', '99ba4efe']
    """
    words = np.array([*key, key[0] ^ key[1] ^ PARITY], np.uint32)
    # Arrays of one dimension at least: for scalars, NumPy warns about the overflow that is intended here.
    x0 = np.asarray(counter[0], np.uint32)[None] + words[0]
    x1 = np.asarray(counter[1], np.uint32)[None] + words[1]
    for number in range(ROUNDS):
        x0 = x0 + x1
        rotation = ROTATIONS[number % 8]
        x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 = x0 + words[injection % 3]
            x1 = x1 + words[(injection + 1) % 3] + np.uint32(injection)
    return x0[0], x1[0]


def seed_words(seed: int) -> tuple[int, int]:
    """Returns the low and the high uint32 word of a 64-bit seed. Negative seeds are read as two's complement.

    Raises:
        ArgumentError: `seed` is not an integer from -2**63 to 2**64 - 1.

    Example:
        >>> seed_words(-1)
        (4294967295, 4294967295)
    """
    in_range = require.is_integer(seed) and -(2**63) <= seed < 2**64
    require.that(in_range, "seed", "a 64-bit integer", seed)
    bits = int(seed) % 2**64
    return bits % 2**32, bits >> 32


def uniform(seed: int, position: Any) -> Any:
    """Returns uniform float32 numbers in [0, 1), of the shape of `position`: `(x0 >> 8) * 2^-24`.

    Args:
        seed: a 64-bit integer.
        position: index of the token in its text, or an array of indices.

    Raises:
        ArgumentError: `seed` is not an integer from -2**63 to 2**64 - 1.

    Example:
        >>> uniform(7, [0, 1]).dtype, uniform(7, [0, 1]).shape
        (dtype('float32'), (2,))
    """
    position = np.asarray(position, np.uint32)
    x0, _ = threefry_2x32(seed_words(seed), (position, np.zeros_like(position)))
    return (x0 >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
