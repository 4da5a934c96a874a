"""JSON that a person may have changed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.json_text import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_json_writes_is_read(value):
    assert parse_json(json.dumps(value)) == value


@given(st.binary() | st.text())
def test_anything_else_is_a_value_error_of_one_line(content):
    message = "it is fine"
    try:
        parse_json(content)
    except ValueError as error:
        message = str(error)
    assert message.startswith("it is ")
    assert "\n" not in message


@pytest.mark.parametrize("content", [100_000 * "[", 100_000 * '{"a":', "[" * 5_000 + "]" * 5_000])
def test_deep_nesting_is_a_value_error(content):
    with pytest.raises(ValueError, match="it is nested too deeply"):
        parse_json(content)
