"""A stream of text in chunks that can be tokenized independently of each other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from keras_seq.data.tokens import split_words
from keras_seq.errors import CorpusError

CHUNK = 2**20  # characters

Unit = Literal["char", "word", "line"]


def in_chunks(pieces: Iterable[str], unit: Unit) -> Iterator[str]:
    """Yields a text in chunks of about `CHUNK` characters, none of which ends within a word token or line.

    The tokens, or lines, of all chunks together are those of the whole text.

    Args:
        pieces: the text, in pieces of any length.
        unit: what must not be cut: "word" or "line"; "char" allows any cut.

    Raises:
        CorpusError: a word or line is longer than a chunk.
    """
    end_of_last: Callable[[str], int] = {"line": _end_of_last_line, "word": _end_of_last_word, "char": len}[unit]
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size < CHUNK:
            continue
        text = "".join(held)
        end = end_of_last(text)
        if not end:
            raise CorpusError(
                f"a {unit} must be shorter than {CHUNK:,} characters, but one of at least {len(text):,} was found; "
                "split it, or encode the text by characters"
            )
        yield text[:end]
        held, size = [text[end:]], len(text) - end
    if size:
        yield "".join(held)


def first_characters(pieces: Iterable[str], count: int) -> Iterator[str]:
    """Yields the first `count` characters of a text that comes in pieces, or all if it is shorter."""
    for piece in pieces:
        if count <= 0:
            return
        yield piece[:count]
        count -= len(piece)


def _end_of_last_line(text: str) -> int:
    return text.rfind("\n") + 1


def _end_of_last_word(text: str) -> int:
    """Returns where the last word token ends that no following text can change; 0 if there is none.

    A space or line feed only occurs as the first character of a token, so a token ends before the last of them. Without
    any, up to two tokens at the end can still join with the following text: a word and its apostrophe.
    """
    end = max(text.rfind(" "), text.rfind("\n"))
    return end if end > 0 else len("".join(split_words(text)[:-2]))
