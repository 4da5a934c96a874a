"""Checks of arguments. Each raises `keras_seq.errors.ArgumentError`, which names the argument and the value received."""

import math
import numbers
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

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
    is_float = not is_integer(value) or value <= sys.float_info.max  # An int has no limit.
    that(is_float and is_number(value) and 0 < value < math.inf, name, "a positive, finite number", value)


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


def rows(name: str, values: Any, shape: Sequence[int | None], dtype: str, token_count: int | None = None) -> np.ndarray:
    """Returns an array with an axis of rows, which it requires to fit an input of a model.

    Args:
        name: name of the input.
        values: an array `(rows, *shape)`, or `shape` for one row.
        shape: the shape of a row; None for any size of at least 1.
        dtype: name of the dtype of the input.
        token_count: number of token ids, if it holds these.

    Example:
        >>> rows("context", [1.0, 2.0], shape=[2], dtype="float32")
        array([[1., 2.]], dtype=float32)
        >>> rows("context", [1.0, 2.0], shape=[3], dtype="float32")
        Traceback (most recent call last):
        keras_seq.errors.ArgumentError: `context` must be an array of shape (rows, 3). Received: context='shape (2,)'
    """
    array = np.asarray(values)
    array = array[None] if array.ndim == len(shape) else array
    fits = array.ndim == 1 + len(shape) and 0 not in array.shape
    if not fits or any(size not in (None, actual) for size, actual in zip(shape, array.shape[1:], strict=True)):
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ArgumentError(name, f"an array of shape (rows, {sizes})", f"shape {np.shape(values)}")
    holds_integers, holds_numbers = array.dtype.kind in "iub", array.dtype.kind in "iubf"
    received = f"{array.dtype} from {array.min()} to {array.max()}" if holds_numbers else str(array.dtype)
    if token_count is not None:
        in_range = holds_integers and array.min() >= 0 and array.max() < token_count
        that(bool(in_range), name, f"token ids from 0 to {token_count - 1}", received)
    elif "float" in dtype:
        that(holds_numbers and bool(np.isfinite(array).all()), name, "finite real numbers", received)
    else:
        fits = holds_integers and (dtype == "bool" or bool((array == array.astype(dtype)).all()))
        that(fits, name, f"integers that fit {dtype}", received)
    return array.astype(dtype)
