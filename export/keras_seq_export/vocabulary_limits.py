"""How large a vocabulary in an export may be. Its readers have the same limits: Python, C, JavaScript and the client."""

from typing import Final

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary

MOST_TOKENS: Final = 1 << 19
MOST_BYTES: Final = 16 << 20  # of `vocab.txt`


def require_exportable(vocabulary: Vocabulary | None) -> None:
    """Requires that a vocabulary can be read from an export.

    Raises:
        ArgumentError: it has too many tokens or bytes.
    """
    if not isinstance(vocabulary, Vocabulary):  # None, or a mistake that other checks name.
        return
    tokens, size = len(vocabulary), len(vocabulary.to_bytes())
    expected = f"of at most {MOST_TOKENS:,} tokens and {MOST_BYTES:,} bytes to be exported: train with a smaller one"
    fits, received = tokens <= MOST_TOKENS and size <= MOST_BYTES, f"{tokens:,} tokens, {size:,} bytes"
    require.that(fits, "vocabulary", expected, received)
