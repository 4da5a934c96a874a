"""Stop strings against definitions by all positions of a text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import VECTORS

from keras_seq.generation.stop_strings import checked_stops, find_stop, unfinished_stop, until_stop
from keras_seq.generation.text import Piece

WORDS = st.text("ab", min_size=1, max_size=4)


@given(st.text("ab", max_size=12), st.lists(WORDS, max_size=3))
def test_the_first_stop_is_found(text, stops):
    positions = [i for i in range(len(text)) if any(text.startswith(stop, i) for stop in stops)]
    assert find_stop(text, stops) == (positions[0] if positions else -1)


@given(st.text("ab", max_size=12), st.lists(WORDS, max_size=3))
def test_only_what_may_begin_a_stop_string_is_held_back(text, stops):
    """Whatever follows, a stop string that is not complete yet begins within the characters held back or after them."""
    held = unfinished_stop(text, stops)
    begins = [i for i in range(len(text)) if any(stop.startswith(text[i:]) and stop != text[i:] for stop in stops)]
    assert held == (len(text) - begins[0] if begins else 0)


@pytest.mark.parametrize(("pieces", "stops", "text"), json.loads(VECTORS.read_text())["stop_strings"])
def test_the_vectors(pieces, stops, text):
    given, reasons = ((Piece(piece, 0, None, 0), None) for piece in pieces), []
    assert "".join(piece for piece, _ in until_stop(generator(given), stops, reasons.append)) == text
    assert reasons == ["stop" if text != "".join(pieces) else "length"]


def generator(pieces):
    yield from pieces
    return "length"


def test_one_string_or_several():
    assert checked_stops("ab") == ("ab",)
    assert checked_stops(["ab", "c"]) == ("ab", "c")
    assert checked_stops(()) == ()


@pytest.mark.parametrize("stop", ["", ["a", ""], [1], None, 5])
def test_stop_must_be_strings_that_are_not_empty(stop):
    with pytest.raises(ValueError, match="`stop` must be a string or a list of strings"):
        checked_stops(stop)
