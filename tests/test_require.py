"""Each check of `require` on its limits, bools, NaN, infinities and the numbers of NumPy."""

import math
import re

import numpy as np
import pytest

from keras_seq import require
from keras_seq.errors import ArgumentError

NO_INTEGERS = [True, False, np.True_, 1.0, np.float32(1), math.nan, math.inf, -math.inf, "1", None, [1]]
NO_NUMBERS = [True, False, np.True_, "1", None, [1], 1j]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), np.float32("inf")]


def accepted(check, values, *arguments, **named):
    """Returns the values that a check accepts. The errors of the others must name the argument and show the value."""
    kept, errors = [], []
    for value in values:
        try:
            check("size", value, *arguments, **named)
            kept.append(value)
        except ArgumentError as error:
            errors.append((value, str(error)))
    for value, message in errors:
        assert re.fullmatch(rf"`size` must be .+\. Received: size={re.escape(repr(value))}", message)
    return kept


def test_that_raises_unless_it_holds():
    require.that(True, "size", "even", 3)
    with pytest.raises(ArgumentError, match=r"^`size` must be even\. Received: size=3$"):
        require.that(False, "size", "even", 3)


@pytest.mark.parametrize("value", [0, -3, 2**70, np.int32(5), np.uint8(0), np.int64(-1)])
def test_integers_are_integers_and_numbers(value):
    assert require.is_integer(value)
    assert require.is_number(value)


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_what_is_no_integer(value):
    assert not require.is_integer(value)


def test_numbers_include_nan_and_infinity_but_no_bools():
    assert all(map(require.is_number, [0.5, np.float16(1), np.float64(2), *NOT_FINITE]))
    assert not any(map(require.is_number, NO_NUMBERS))


def test_integer():
    inside = [2, 3, np.int64(2), np.uint8(9)]
    assert accepted(require.integer, [*inside, 1, -5, np.int32(1), *NO_INTEGERS], at_least=2) == inside
    assert accepted(require.integer, [2, np.int16(4), 5, 1, *NO_INTEGERS], at_least=2, at_most=4) == [2, 4]


def test_positive_integer():
    inside = [1, 10**12, np.int8(1), np.uint64(7)]
    assert accepted(require.positive_integer, [*inside, 0, -1, np.int64(0), *NO_INTEGERS]) == inside


def test_positive_number():
    inside = [1, 5e-324, 1e300, np.float32(0.5), np.int64(3)]
    assert accepted(require.positive_number, [*inside, 0, -0.0, -1, np.float64(0), *NOT_FINITE, *NO_NUMBERS]) == inside


def test_fraction():
    inside = [0, 0.0, 0.999, np.float32(0.5), np.int64(0)]
    assert accepted(require.fraction, [*inside, 1, 1.0, -1e-9, np.float16(1), *NOT_FINITE, *NO_NUMBERS]) == inside


def test_positive_fraction():
    inside = [1, 1.0, 1e-9, np.float32(0.5), np.int64(1)]
    assert accepted(require.positive_fraction, [*inside, 0, 0.0, -0.5, 1.0001, *NOT_FINITE, *NO_NUMBERS]) == inside


def test_boolean():
    outside = [0, 1, np.True_, np.int8(1), math.nan, math.inf, "True", None]
    assert accepted(require.boolean, [True, False, *outside]) == [True, False]


def test_one_of():
    outside = ["rnn", "", "GRU", True, 0, math.nan, math.inf, np.int64(1), None]
    assert accepted(require.one_of, ["gru", np.str_("lstm"), *outside], ["gru", "lstm"]) == ["gru", "lstm"]
    with pytest.raises(ArgumentError, match="one of gru, lstm"):
        require.one_of("size", "rnn", iter(["gru", "lstm"]))
