"""The int16 numbers of an integer file and the float32 numbers that they stand for. Imports neither TensorFlow nor Keras."""

import numpy as np

from keras_seq.errors import ArgumentError
from keras_seq_export.tflite.signature import Tensor

_LOWEST, _HIGHEST = -(2**15), 2**15 - 1


def as_float32(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns what the values of a tensor stand for; those of a tensor without a scale are returned as they are.

    Args:
        values: values of the tensor.
        tensor: an input or output.

    Example:
        >>> as_float32(np.array([-8192, 4096], np.int16), Tensor("int16", (2,), 2**-13)).tolist()
        [-1.0, 0.5]
    """
    return values if tensor.scale is None else values.astype(np.float32) * np.float32(tensor.scale)


def as_stored(name: str, values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns real numbers as a tensor holds them: for one with a scale, the nearest int16 numbers.

    Halves are rounded up, and values out of range become the lowest or highest number. What `as_float32` returned becomes
    what it was.

    Args:
        name: name of the values, for error messages.
        values: an array of real numbers.
        tensor: an input or output.

    Raises:
        ArgumentError: a value is NaN, and the tensor has a scale.

    Example:
        >>> as_stored("state_0", np.array([-1.0, 0.00006, 9.0]), Tensor("int16", (3,), 2**-13)).tolist()
        [-8192, 0, 32767]
    """
    if tensor.scale is None:
        return values
    wide = values.astype(np.float64)
    if np.isnan(wide).any():
        raise ArgumentError(name, "real numbers", "NaN")
    return np.clip(np.floor(wide / tensor.scale + 0.5), _LOWEST, _HIGHEST).astype(np.int16)
