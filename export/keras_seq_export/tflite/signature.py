"""The names, dtypes and shapes of a signature of a .tflite. Imports neither TensorFlow nor Keras, nor LiteRT's schema."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Tensor(NamedTuple):
    """An input or output of a signature.

    Attributes:
        dtype: its name.
        shape: its shape.
        scale: in a file of integers, the number by which an int16 value is multiplied; None for other tensors.
    """

    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None

    def __str__(self) -> str:
        """Returns dtype, shape and scale, such as `float32 [1, 256]` or `int16 [1, 256] * 0.00012207`."""
        shown = f"{self.dtype} {list(self.shape)}"
        return shown if self.scale is None else f"{shown} * {self.scale:.5g}"


class Signature(NamedTuple):
    """A signature of a .tflite.

    Attributes:
        inputs: by name.
        outputs: by name.
        operators: number of operators of each kind, including those in loops and branches.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    operators: dict[str, int]


def tensors_of(details: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the inputs or outputs of a signature by name, from what LiteRT says of them."""
    return {
        name: Tensor(
            np.dtype(one["dtype"]).name, tuple(map(int, one["shape"])), _scale_of(one["quantization_parameters"])
        )
        for name, one in details.items()
    }


def _scale_of(parameters: Mapping[str, Any]) -> float | None:
    """Returns the scale of int16 numbers around 0; None for a tensor of another kind."""
    scales, zero_points = parameters["scales"].tolist(), parameters["zero_points"].tolist()
    return scales[0] if len(scales) == 1 and zero_points == [0] else None
