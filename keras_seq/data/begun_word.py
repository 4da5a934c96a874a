"""The word that has been begun at the end of a text, such as the text before the caret of a keyboard; and that before."""

import re
from typing import Final

from keras_seq.data.tokens import APOSTROPHE, SINGLE, WHITE_SPACE, WORD, AnyLevel

# These match the text from its end, so the whole text need not be searched.
_REVERSED_WHOLE: Final = f"{WORD}+(?:[{APOSTROPHE}]{WORD}+)*"
_REVERSED_WORD: Final = f"[{APOSTROPHE}]?{_REVERSED_WHOLE}"
_REVERSED: Final = {
    "char": re.compile(f"(?:{_REVERSED_WORD})?"),
    "word": re.compile(f"(?:{_REVERSED_WORD} ?| )?"),
    "whitespace": re.compile(f"[^{WHITE_SPACE}]*"),
}
_REVERSED_BEFORE: Final = re.compile(f" ?({_REVERSED_WHOLE}|[{SINGLE}])")


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


def word_before(text: str, begun: str) -> str:
    """Returns the word right before the one that has been begun: nothing or one space is between them.

    Args:
        text: a text. Its end suffices, if the word is whole and one more character is before it.
        begun: the part of a word at its end, `begun_word(text, "char")`.

    Returns:
        The word, or a character of a script without spaces; empty if anything else is there.

    Example:
        >>> [word_before(text, begun_word(text, "char")) for text in ("I don't kn", "I don't ", "so, b", "so  b", "b")]
        ["don't", "don't", '', '', '']
    """
    found = _REVERSED_BEFORE.match(text[: len(text) - len(begun)][::-1])
    return found[1][::-1] if found else ""
