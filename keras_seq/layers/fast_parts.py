"""The parts in which the fast path reads a sequence: the whole, or parts of a fixed number of steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# Steps of a part where the length is unknown when the graph is traced, so that XLA compiles the loops once for all lengths.
LONGEST_PART = 32


class Parts(NamedTuple):
    """How a sequence is read.

    Attributes:
        longest: largest number of steps of a part. The loops are compiled for it.
        time: number of steps of the sequence: an int where it is known, which is then read as one part; otherwise a tensor.
    """

    longest: int
    time: Any

    @classmethod
    def of(cls, inputs: Any) -> "Parts":
        """Returns the parts of inputs `(time, rows, features)`."""
        time = inputs.shape[0]
        return cls(LONGEST_PART, tf.shape(inputs)[0]) if time is None else cls(time, time)

    @property
    def is_whole(self) -> bool:
        """Whether the sequence is read as one part."""
        return isinstance(self.time, int)

    @property
    def count(self) -> Any:
        """The number of parts."""
        return 1 if self.is_whole else -(-self.time // self.longest)

    def each(self, read: Callable[..., tuple[Any, ...]], *values: Any) -> tuple[Any, ...]:
        """Returns the values after `read(number, *values)` for each part; `number` counts from 0."""
        if self.is_whole:
            return read(0, *values)
        return tf.while_loop(
            lambda number, *_: number < self.count,
            lambda number, *values: (number + 1, *read(number, *values)),
            (0, *values),
        )[1:]

    def steps(self, index: Any) -> Any:
        """Returns the number of steps of a part, int32 `()`."""
        return tf.minimum(self.longest, self.time - index * self.longest)

    def part(self, values: Any, index: Any) -> Any:
        """Returns the steps of a part, `(steps, ...)`, of `(time, ...)`."""
        return values if self.is_whole else values[index * self.longest : (index + 1) * self.longest]

    def filled(self, part: Any) -> Any:
        """Returns the steps of a part, filled up to `longest` with zeros."""
        if self.is_whole:
            return part
        missing = self.longest - tf.shape(part)[0]
        paddings = [[0, missing], *[[0, 0]] * (len(part.shape) - 1)]
        return tf.ensure_shape(tf.pad(part, paddings), (self.longest, *part.shape[1:]))

    # What a pass writes for each part is a TensorArray; of a whole sequence, it is the only tensor itself.

    def empty(self, dtype: Any) -> Any:
        """Returns an array for `written`."""
        return tf.zeros((), dtype) if self.is_whole else tf.TensorArray(dtype, size=self.count, infer_shape=False)

    def written(self, array: Any, index: Any, value: Any) -> Any:
        """Returns an array with the value of a part."""
        return value if self.is_whole else array.write(index, value)

    def joined(self, array: Any) -> Any:
        """Returns the steps of all parts, `(time, ...)`, from their filled values."""
        # All parts are full: TensorFlow computes no jacobian where parts of other lengths are joined.
        return array if self.is_whole else array.concat()[: self.time]

    def kept(self, array: Any) -> Any:
        """Returns an array as a tensor: TensorFlow saves no gradient that reads a TensorArray of its forward pass."""
        return array if self.is_whole else array.stack()

    def read(self, kept: Any, index: Any) -> Any:
        """Returns the value of a part from what `kept` returned."""
        return kept if self.is_whole else kept[index]
