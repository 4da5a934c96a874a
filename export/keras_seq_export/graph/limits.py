"""How large a request to a SavedModel may be. The checks run before anything whose time or memory grows with the request.

A row must not be refused because of its batch-mates. The rows of a batch of the server may therefore all be as long as a
single row may be: `MAX_BATCH_SIZE` times `max_length` tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from keras_seq_export.graph.request_checks import check
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.signatures import MAX_BATCH_SIZE, MAX_ROWS, MAX_SERIES_ROWS

MAX_LENGTH = (
    10_000  # tokens: the default of `max_length`, and that for steps after an encoder, which reads a source at once
)
MAX_STEPS = 1_000_000  # the default without text and an encoder: one minute of 16 kHz audio, sample by sample
# A character has at most 4 bytes in UTF-8. A word token, with its space, has 6 on average in English.
_BYTES_PER_CHARACTER, _BYTES_PER_WORD = 4, 32


def most_rows(step: GraphStep) -> int:
    """Returns the largest number of rows that a signature of a model takes."""
    return MAX_ROWS if step.of_text else MAX_SERIES_ROWS


class Limits(NamedTuple):
    """How large a request may be.

    Attributes:
        max_length: largest number of tokens of a text, or of steps of a sequence.
    """

    max_length: int

    @classmethod
    def of(cls, step: GraphStep, max_length: int | None) -> "Limits":
        """Returns the limits of a model; None gives the default for its kind."""
        if max_length is None:
            max_length = MAX_LENGTH if step.of_text or step.has_encoder else MAX_STEPS
        return cls(max_length)

    @property
    def in_all_rows(self) -> int:
        """Largest number of tokens or steps in all rows together, where each row counts as much as the longest."""
        return MAX_BATCH_SIZE * max(self.max_length, MAX_LENGTH)

    def text_checks(self, name: str, text: tf.Tensor, level: str) -> Iterator[tf.Operation]:
        """Yields the checks of the bytes of texts `(rows,)`, which are to be split into the tokens of a level."""
        per_token = _BYTES_PER_CHARACTER if level == "char" else _BYTES_PER_WORD
        size = tf.cast(tf.strings.length(text), tf.int64)
        most = per_token * self.max_length
        yield check(size <= most, f"`{name}` must be at most {most} bytes in a row: send a shorter text.", size)
        total, most = tf.reduce_sum(size), per_token * self.in_all_rows
        expected = f"`{name}` must be at most {most} bytes in all rows together: send fewer rows in a request."
        yield check(total <= most, expected, total)

    def work_check(self, what: str, rows: tf.Tensor, longest: tf.Tensor) -> tf.Operation:
        """Returns the check of the number of rows times the length of the longest.

        Args:
            what: what has the length, in the plural.
            rows: number of rows, `()` int32.
            longest: number of tokens or steps of the longest row, `()`.
        """
        rows, longest = tf.cast(rows, tf.int64), tf.cast(longest, tf.int64)
        expected = f"rows times {what} must be at most {self.in_all_rows}: send fewer rows in a request."
        received = tf.stack([rows, longest])
        return check(rows * longest <= self.in_all_rows, expected, received, f"Received rows and {what}:")

    def sequence_checks(self, name: str, values: tf.Tensor, frames: int = 1) -> Iterator[tf.Operation]:
        """Yields the checks of the lengths of sequences `(rows, time, ...)`.

        Args:
            name: name of the input.
            values: the sequences. Those of a model with a fixed length are as long as it wants, which is not checked.
            frames: number of frames that one step reads.
        """
        size, limits = tf.shape(values), self
        if values.shape[1] is None:
            most = self.max_length * frames
            longest = tf.cast(size[1], tf.int64)
            yield check(longest <= most, f"`{name}` must be at most {most} long: send a shorter sequence.", longest)
        else:
            limits = Limits(max(self.max_length, values.shape[1] // frames))
        yield limits.work_check(f"steps of `{name}`", size[0], size[1] // frames)
