"""The limits of `keras_seq.NgramEmbedding`, for code that must not import Keras."""

LONGEST = 8  # tokens of an n-gram


def largest_rows(input_dim: int, longest: int) -> int:
    """Returns the largest number of rows for which the hashes are int32 numbers, which every runtime computes.

    Example:
        >>> largest_rows(65, longest=4)
        8259552
    """
    return (2**31 - 1) // (longest * input_dim)
