"""The names, dtypes and shapes of a signature of a .tflite. Imports neither TensorFlow nor Keras, nor LiteRT's schema."""

from typing import NamedTuple


class Tensor(NamedTuple):
    """An input or output of a signature."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Returns dtype and shape, such as `float32 [1, 256]`."""
        return f"{self.dtype} {list(self.shape)}"


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
