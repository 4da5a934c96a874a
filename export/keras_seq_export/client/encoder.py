"""What the encoder of a model on a server takes, as `start` describes it, and checks of a caller's arrays."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError


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
            described = json.loads(description)
            self.inputs = [EncoderInput(**one) for one in described["inputs"]]
            self.units = [int(units) for units in described["units"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"its encoder is described in another way: {error}") from error

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
