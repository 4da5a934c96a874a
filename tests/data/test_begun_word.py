"""The word that has been begun, against a definition by all ends of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data.begun_word import begun_word, word_before
from keras_seq.data.tokens import begins_word, class_of, split_words

TEXTS = st.text("ab'’ ,你\n", max_size=12)


def is_begun(word):
    """Whether characters are runs of word characters, joined by apostrophes, and maybe one more apostrophe."""
    runs = word.replace("’", "'").removesuffix("'").split("'")
    return all(run and all(class_of(character) == "word" for character in run) for run in runs)


def longest(text, fits):
    return next(text[start:] for start in range(len(text) + 1) if start == len(text) or fits(text[start:]))


@given(TEXTS)
def test_characters(text):
    assert begun_word(text, "char") == longest(text, is_begun)


@given(TEXTS)
def test_words_with_the_space_before_them(text):
    found = begun_word(text, "word")
    assert found == longest(text, lambda end: end == " " or is_begun(end.removeprefix(" ")))
    context = text[: len(text) - len(found)]
    assert split_words(text)[: len(split_words(context))] == split_words(context)


@pytest.mark.parametrize(("text", "word"), [("to be", "be"), ("to be ", ""), ("", ""), ("a\u2003b", "a\u2003b")])
def test_what_follows_the_last_white_space(text, word):
    assert begun_word(text, "whitespace") == word


@given(TEXTS)
def test_the_word_before_is_the_token_before(text):
    begun = begun_word(text, "char")
    tokens = split_words(text[: len(text) - len(begun)])
    if tokens and tokens[-1] == " ":
        tokens.pop()
    before = tokens[-1].removeprefix(" ") if tokens and begins_word(tokens[-1]) else ""
    assert word_before(text, begun) == before
    assert word_before(text[-len(begun) - len(before) - 2 :], begun) == before
