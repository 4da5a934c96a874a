"""The word that has been begun at the end of a text, such as the text before the caret of a keyboard."""

import re
from typing import Final

from keras_seq.data.tokens import APOSTROPHE, WHITE_SPACE, WORD, AnyLevel

# These match the text from its end, so the whole text need not be searched.
_REVERSED_WORD: Final = f"[{APOSTROPHE}]?{WORD}+(?:[{APOSTROPHE}]{WORD}+)*"
_REVERSED: Final = {
    "char": re.compile(f"(?:{_REVERSED_WORD})?"),
    "word": re.compile(f"(?:{_REVERSED_WORD} ?| )?"),
    "whitespace": re.compile(f"[^{WHITE_SPACE}]*"),
}


def begun_word(text: str, level: AnyLevel) -> str:
    """Returns the end of a text that a word can continue; it may be empty.

    At the word level it includes the space before the word, as the tokens do, and a space alone begins a word. An
    apostrophe after a word may join it to what follows.

    Example:
        >>> [begun_word(text, "word") for text in ("I wi", "I ", "I don'", "so,")]
        [' wi', ' ', " don'", '']
        >>> begun_word("I wi", "char"), begun_word("(to", "whitespace")
        ('wi', '(to')
    """
    found = _REVERSED[level].match(text[::-1])
    assert found is not None  # Each pattern matches the empty text.
    return found[0][::-1]
