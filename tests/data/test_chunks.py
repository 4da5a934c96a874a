"""Chunks of a text, against the tokens of the whole text."""

import itertools
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data import chunks
from keras_seq.data.tokens import split_words

TEXTS = st.text(st.sampled_from("ab \n'’.x中ب👍\t") | st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.lists(TEXTS, max_size=8), st.sampled_from(["char", "word", "line"]), st.integers(8, 60))
def test_the_tokens_of_all_chunks_are_those_of_the_text(pieces, unit, size):
    text = "".join(pieces)
    tokens = {"char": list, "word": split_words, "line": lambda text: [line for line in text.split("\n") if line]}[unit]
    with mock.patch.object(chunks, "CHUNK", size):
        # Two tokens must fit at the end of a chunk.
        if unit != "char" and max(map(len, tokens(text)), default=0) >= size / 3:
            return
        found = list(chunks.in_chunks(pieces, unit))
    assert "".join(found) == text
    assert list(itertools.chain.from_iterable(map(tokens, found))) == tokens(text)
