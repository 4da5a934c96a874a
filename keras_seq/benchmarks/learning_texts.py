"""The texts of `keras-seq benchmark learning`: those of several authors, as a model can read them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keras_seq.data.tokens import split_text
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError

LEARNED = 20_000  # characters that a model learns from before it is measured on new ones
HELD_OUT = 10_000  # characters that it is then measured on


class Author(NamedTuple):
    """The text of an author.

    Attributes:
        name: name of the text in reports.
        text: the text. Where the vocabulary has no unknown token, tokens that it lacks are left out.
        tokens: its tokens.
        lacking: what is said of the tokens that the vocabulary lacks; empty if there are none.
    """

    name: str
    text: str
    tokens: Sequence[str]
    lacking: str


def authors(texts: Mapping[str, str], vocabulary: Vocabulary) -> list[Author]:
    """Returns the authors of texts by their names.

    Raises:
        CorpusError: there is no text, or one is too short to be learned from and measured on.
    """
    if not texts:
        raise CorpusError("there must be a text to learn from")
    found = [_author(name, text, vocabulary) for name, text in texts.items()]
    for one in found:
        if len(one.text) < LEARNED + HELD_OUT:
            raise CorpusError(
                f"a text to learn from must have {LEARNED + HELD_OUT:,} characters, but {one.name} has {len(one.text):,}"
            )
    return found


def beginning(author: Author, tokens: int, vocabulary: Vocabulary) -> str:
    """Returns the first tokens of a text as text."""
    return (" " if vocabulary.level == "whitespace" else "").join(author.tokens[:tokens])


def _author(name: str, text: str, vocabulary: Vocabulary) -> Author:
    every = split_text(text, vocabulary.level)
    known = [token for token in every if token in vocabulary.ids]
    lacking = ""
    if len(known) < len(every):
        lacking = f"{name}: {len(every) - len(known):,} of {len(every):,} tokens, which the vocabulary lacks, are "
    if vocabulary.unk_id is not None:
        return Author(name, text, every, lacking and f"{lacking}{vocabulary.tokens[vocabulary.unk_id]}")
    return Author(name, "".join(known), known, lacking and f"{lacking}left out")
