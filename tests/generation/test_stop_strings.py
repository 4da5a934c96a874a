import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.generation.stop_strings import checked_stops, find_stop, unfinished_stop

WORDS = st.text("ab", min_size=1, max_size=4)


@given(st.text("ab", max_size=12), st.lists(WORDS, max_size=3))
def test_the_first_stop_is_found(text, stops):
    places = [i for i in range(len(text)) if any(text.startswith(stop, i) for stop in stops)]
    assert find_stop(text, stops) == (places[0] if places else -1)


@given(st.text("ab", max_size=12), st.lists(WORDS, max_size=3))
def test_what_no_stop_can_begin_in_is_never_held_back(text, stops):
    """Whatever comes next, a stop that is not yet whole begins within the characters held back, or after them."""
    held = unfinished_stop(text, stops)
    begins = [i for i in range(len(text)) if any(stop.startswith(text[i:]) and stop != text[i:] for stop in stops)]
    assert held == (len(text) - begins[0] if begins else 0)


def test_one_string_or_several():
    assert checked_stops("ab") == ("ab",)
    assert checked_stops(["ab", "c"]) == ("ab", "c")
    assert checked_stops(()) == ()


@pytest.mark.parametrize("stop", ["", ["a", ""], [1], None, 5])
def test_an_empty_stop_string_is_refused(stop):
    with pytest.raises(ValueError, match="`stop` must be a string or a list of strings"):
        checked_stops(stop)
