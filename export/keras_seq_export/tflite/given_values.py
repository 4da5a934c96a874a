"""What a user gives as inputs of a step or of an encoder, as a .tflite takes it. Imports neither TensorFlow nor Keras."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_seq import require
from keras_seq.errors import ArgumentError
from keras_seq.generation.decoder_step import token_ids
from keras_seq_export.signatures import TOKEN
from keras_seq_export.tflite.fixed_point import as_stored
from keras_seq_export.tflite.signature import Tensor


class GivenValues:
    """The values of the inputs of one file.

    Args:
        config: the configuration inside the file.
    """

    def __init__(self, config: Mapping[str, Any]):
        self._ranges: Mapping[str, Any] = config.get("ranges", {})
        self._at_once: Mapping[str, str | None] = config.get("at_once", {})
        self._batch: int = config["batch"]

    def checked(self, name: str, tensor: Tensor, values: Any) -> np.ndarray:
        """Returns values of an input of a step as an array of any shape; those of an int32 input must be integers or truth values."""
        if tensor.dtype != "int32":
            return np.asarray(values)
        array = _as_integers(name, values)
        self._require_range(name, array)
        return array

    def as_input(self, name: str, tensor: Tensor, values: Any) -> np.ndarray:
        """Returns values of a step as an input: numbers for an int16 input are rounded to its scale.

        Another shape is refused, because the runtime would resize the model to it.
        """
        array = np.ascontiguousarray(as_stored(name, self.checked(name, tensor, values), tensor), tensor.dtype)
        if array.shape != tensor.shape:
            raise ValueError(f"`{name}` must have the shape {tensor.shape}. Received: {array.shape}")
        return array

    def for_encoder(self, tensors: Mapping[str, Tensor], values: tuple[Any, ...]) -> dict[str, np.ndarray]:
        """Returns the inputs of the encoder, given the value of each in their order; see `LiteRTDecoder.encode`."""
        if len(values) != len(self._at_once):
            raise ValueError(f"`encode` takes {', '.join(self._at_once)}. Received: {len(values)} arrays")
        inputs: dict[str, np.ndarray] = {}
        for name, value in zip(self._at_once, values, strict=True):
            inputs |= self._for_encoder(name, tensors[name], value)
        return inputs

    def _for_encoder(self, name: str, tensor: Tensor, value: Any) -> dict[str, np.ndarray]:
        """Returns an input of the encoder as the signature takes it; a source is padded, and has its length."""
        shape, length = list(tensor.shape[1:]), self._at_once[name]
        rows = require.rows(name, value, [None, *shape[1:]] if length else shape, tensor.dtype)
        self._require_range(name, rows)
        if len(rows) not in (1, self._batch):
            raise ArgumentError(name, f"of {self._batch} rows, or one row for all", f"{len(rows)} rows")
        rows = np.repeat(rows, self._batch // len(rows), axis=0)
        if not length:
            return {name: rows}
        frames = rows.shape[1]
        if frames > shape[0]:
            raise ArgumentError(name, f"a source of at most {shape[0]} frames", f"{frames} frames")
        padded = np.pad(rows, [(0, 0), (0, shape[0] - frames), *[(0, 0)] * (rows.ndim - 2)])
        return {name: padded, length: np.full(self._batch, frames, np.int32)}

    def _require_range(self, name: str, values: np.ndarray) -> None:
        lowest, highest = self._ranges.get(name, (-np.inf, np.inf))
        if values.size and (values.min() < lowest or values.max() > highest):
            raise ValueError(f"`{name}` must be from {lowest} to {highest}. Received: {values.min()} to {values.max()}")


def _as_integers(name: str, values: Any) -> np.ndarray:
    """Returns integers as int32; also truth values, except of tokens."""
    if name == TOKEN:
        return token_ids(values, name)
    array = np.asarray(values)
    if array.dtype != bool and not (np.issubdtype(array.dtype, np.integer) and (array == array.astype(np.int32)).all()):
        raise ValueError(f"`{name}` must hold integers that fit int32. Received: {values!r}")
    return array.astype(np.int32)
