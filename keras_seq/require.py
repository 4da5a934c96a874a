"""Checks of arguments. Each raises `keras_seq.errors.ArgumentError`, which names the argument and the value received."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from keras_seq.errors import ArgumentError


def that(holds: bool, name: str, expected: str, received: Any) -> None:
    """Raises an ArgumentError unless `holds`.

    Args:
        holds: whether the argument is in range.
        name: name of the argument.
        expected: what the argument must be, to be read after "must be".
        received: its value.
    """
    if not holds:
        raise ArgumentError(name, expected, received)


def is_integer(value: object) -> bool:
    """Returns whether `value` is an integer of Python or NumPy; a bool is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Returns whether `value` is a real number of Python or NumPy, NaN and infinity included; a bool is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def integer(name: str, value: Any, at_least: int, at_most: int | None = None) -> None:
    """Requires an integer of at least `at_least` and, if given, at most `at_most`.

    Example:
        >>> integer("top_k", -1, at_least=0)
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `top_k` must be an integer of at least 0. Received: top_k=-1
    """
    in_range = is_integer(value) and value >= at_least and (at_most is None or value <= at_most)
    expected = f"an integer of at least {at_least}" if at_most is None else f"an integer from {at_least} to {at_most:,}"
    that(in_range, name, expected, value)


def positive_integer(name: str, value: Any) -> None:
    """Requires an integer of at least 1.

    Example:
        >>> positive_integer("units", 0)
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `units` must be a positive integer. Received: units=0
    """
    that(is_integer(value) and value >= 1, name, "a positive integer", value)


def positive_number(name: str, value: Any) -> None:
    """Requires a finite number above 0."""
    that(is_number(value) and 0 < value < math.inf, name, "a positive, finite number", value)


def fraction(name: str, value: Any) -> None:
    """Requires a number of at least 0 and below 1.

    Example:
        >>> fraction("dropout", 1.0)
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `dropout` must be a number of at least 0 and below 1. Received: dropout=1.0
    """
    that(is_number(value) and 0 <= value < 1, name, "a number of at least 0 and below 1", value)


def positive_fraction(name: str, value: Any) -> None:
    """Requires a number above 0 and at most 1.

    Example:
        >>> positive_fraction("coverage", 0)
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `coverage` must be a number above 0 and at most 1. Received: coverage=0
    """
    that(is_number(value) and 0 < value <= 1, name, "a number above 0 and at most 1", value)


def boolean(name: str, value: Any) -> None:
    """Requires True or False."""
    that(isinstance(value, bool), name, "True or False", value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Requires one of some strings.

    Example:
        >>> one_of("cell", "rnn", ["gru", "lstm"])
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `cell` must be one of gru, lstm. Received: cell='rnn'
    """
    choices = list(choices)
    that(value in choices, name, f"one of {', '.join(choices)}", value)
