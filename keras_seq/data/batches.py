"""Token ids as `tf.data`: contiguous streams, over which the state is carried, or one line a row, padded."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf


class Batches(ABC):
    """Batches by their numbers, pass after pass; its `len` is how many there are in one pass through the text."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns the batch of a number, counted from the first of the first pass."""

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        """The shape of each array of a batch."""

    def from_batch(self, number: int) -> "tf.data.Dataset":
        """Returns pass after pass without end, from this batch on, counted from the first of the first pass."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.counter(number))

    def _dataset(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """Returns the batches of these numbers."""
        import tensorflow as tf

        types = (tf.int32, tf.int32, tf.float32)[: len(self._shapes)]

        def batch(number: "tf.Tensor") -> tuple["tf.Tensor", ...]:
            arrays = tf.numpy_function(self.batch, [number], types)
            return tuple(tf.ensure_shape(array, shape) for array, shape in zip(arrays, self._shapes, strict=True))

        options = tf.data.Options()
        # Nothing here is tuned, and ending the tuner at the end of an epoch was seen to wait, idle, for 2 to 18 seconds.
        options.autotune.enabled = False
        return numbers.map(batch).prefetch(2).with_options(options)


def encoded_for(text: EncodedText, vocabulary: Vocabulary, *, by_line: bool) -> EncodedText:
    """Returns an encoded text, if it is one of this vocabulary, by line or not."""
    if text.vocabulary != vocabulary:
        raise ValueError("`vocabulary` must be that of the encoded text, its attribute `vocabulary`. Received: another")
    if text.by_line != by_line:
        raise ValueError(
            f"the encoded text must be {'lines' if by_line else 'one stream'}, to be read as such. "
            f"Received: one encoded with by_line={text.by_line}"
        )
    return text
