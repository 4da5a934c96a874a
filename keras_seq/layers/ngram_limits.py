"""The hash of `keras_seq.NgramEmbedding` and its limits, for code that must not import Keras."""

import itertools
import math

_GOLDEN_SECTION = (math.sqrt(5) - 1) / 2
LONGEST = 8  # tokens of an n-gram
ROWS = 22_993  # of a table, where nothing else is asked for; a prime, with which hashes are spread evenly


def largest_rows(input_dim: int, longest: int) -> int:
    """Returns the largest number of rows for which the hashes are int32 numbers, which every runtime computes.

    Example:
        >>> largest_rows(65, longest=4)
        8259552
    """
    return (2**31 - 1) // (longest * input_dim)


def hash_base(input_dim: int, rows: int) -> int:
    """Returns the number by whose powers the tokens of an n-gram are multiplied.

    It has no factor in common with the rows, so that each token counts. If the rows are a prime number and there are enough,
    no two pairs of tokens share a row. With fewer rows, it is neither small nor near a simple fraction of the rows, with
    which pairs such as (x, y) and (x + 1, y - 2) would be alike.

    Example:
        >>> hash_base(68, rows=49139), hash_base(10_000, rows=32749)
        (68, 20240)
    """
    start = input_dim if input_dim**2 <= rows else round(_GOLDEN_SECTION * rows)
    return next(number for number in itertools.count(max(1, start)) if math.gcd(number, rows) == 1)
