"""`Batches`: batches that are computed from their number, so that training can resume at any of them."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_seq.data.encoded_text import EncodedText


class Batches(ABC):
    """Batches of all epochs, numbered from 0. `len` is the number of batches per epoch.

    Attributes:
        ids: the token ids of the text that the batches are cut from.
    """

    ids: "np.ndarray | EncodedText"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns the arrays of a batch, given its number, which counts from the first batch of the first epoch."""

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        """The shape of each array of a batch."""

    def from_batch(self, number: int) -> "tf.data.Dataset":
        """Returns a dataset of endless epochs, from batch `number` on."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.counter(number))

    def _dataset(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """Returns a dataset of the batches with these numbers."""
        import tensorflow as tf

        types = (tf.int32, tf.int32, tf.float32)[: len(self._shapes)]

        def batch(number: "tf.Tensor") -> tuple["tf.Tensor", ...]:
            arrays = tf.numpy_function(self.batch, [number], types)
            return tuple(tf.ensure_shape(array, shape) for array, shape in zip(arrays, self._shapes, strict=True))

        options = tf.data.Options()
        # There is nothing to tune, and stopping the autotuner at the end of an epoch blocked for 2 to 18 seconds.
        options.autotune.enabled = False
        return numbers.map(batch).prefetch(2).with_options(options)
