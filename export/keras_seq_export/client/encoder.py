"""What the encoder of a model on a server takes, as `start` describes it, and checks of a caller's arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError
from keras_seq.json_text import parse_json


class EncoderInput(NamedTuple):
    """One input of the signature `encode`.

    Attributes:
        name: its name.
        dtype: int32 or float32.
        shape: its shape without the rows; None for a number of frames that the caller chooses.
        length: name of the input for the number of frames; None if that is fixed.
        token_count: number of token ids, if it holds these.
    """

    name: str
    dtype: str
    shape: list[int | None]
    length: str | None
    token_count: int | None


class Encoder:
    """The inputs and outputs of the signature `encode`.

    Args:
        description: the JSON that `start` returns.

    Attributes:
        inputs: its inputs, in their order.
        units: size of each state.

    Raises:
        ValueError: the description is not that of an export.
    """

    def __init__(self, description: bytes):
        try:
            described = parse_json(description)
            self.inputs = [EncoderInput(**one) for one in described["inputs"]]
            self.units: list[int] = described["units"]
            fits = bool(self.inputs) and all(map(_is_whole, self.inputs)) and bool(self.units)
            if not fits or not all(map(_is_size, self.units)):
                raise ValueError("an input or a state lacks what it is")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its encoder is described in another way: {str(error)[:200]}") from error

    def arrays(self, values: Sequence[Any], rows: int | None = None) -> dict[str, np.ndarray]:
        """Returns the inputs of `encode` by name.

        Args:
            values: an array for each input, `(rows, ...)`, or `(...)` for one row.
            rows: number of rows of the request; a single row then serves for all. None takes that of the arrays.

        Raises:
            ArgumentError: an array is missing, or has another shape or dtype.
        """
        names = ", ".join(one.name for one in self.inputs)
        if len(values) != len(self.inputs):
            raise ArgumentError("inputs", f"an array for each of {names}", f"{len(values)} arrays")
        arrays = [
            require.rows(one.name, value, one.shape, one.dtype, one.token_count)
            for one, value in zip(self.inputs, values, strict=True)
        ]
        count = max(map(len, arrays)) if rows is None else rows
        inputs: dict[str, np.ndarray] = {}
        for one, array in zip(self.inputs, arrays, strict=True):
            if len(array) not in (1, count):
                raise ArgumentError(one.name, f"of {count} rows, or one row for all", f"{len(array)} rows")
            array = np.repeat(array, count // len(array), axis=0)
            inputs[one.name] = array
            if one.length:
                inputs[one.length] = np.full(count, array.shape[1], np.int32)
        return inputs


def _is_whole(given: EncoderInput) -> bool:
    """Returns whether the values of a description have the types that they should."""
    return (
        isinstance(given.name, str)
        and given.dtype in ("int32", "float32")
        and isinstance(given.shape, list)
        and all(size is None or _is_size(size) for size in given.shape)
        and (given.length is None or isinstance(given.length, str))
        and (given.token_count is None or _is_size(given.token_count))
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31
