"""A text as contiguous streams, over which the state is carried: `keras_seq.streams`."""

from typing import TYPE_CHECKING

import numpy as np

from keras_seq import require
from keras_seq.data.batches import Batches
from keras_seq.data.encoded_text import EncodedText, token_ids
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError

if TYPE_CHECKING:
    import tensorflow as tf


def streams(text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, length: int) -> "tf.data.Dataset":
    """Cuts a text into `batch_size` contiguous streams and reads them in parallel, `length` tokens at a time.

    Row `b` of each batch continues row `b` of the previous batch, so that a stateful layer can carry its state from
    batch to batch. Every stream begins with `<s>`. Tokens at the end of a stream that do not fill a batch are left out.

    Args:
        text: the corpus, as a text or encoded on disk (`keras_seq.encode_corpus`).
        vocabulary: its vocabulary.
        batch_size: number of streams.
        length: tokens per row of a batch.

    Returns:
        A dataset of `(inputs, targets)`, both `(batch_size, length)` int32; `targets` is `inputs` shifted by one token.

    Raises:
        ArgumentError: `batch_size` or `length` is not a positive integer, or the vocabulary lacks `<s>`.
        CorpusError: the text is shorter than one batch, or it was encoded with another vocabulary or by line.

    Example:
        >>> vocabulary = Vocabulary.from_text("abcdef")
        >>> inputs, targets = next(iter(streams("abcdef", vocabulary, batch_size=2, length=3)))
        >>> vocabulary.decode(inputs[1].numpy()), vocabulary.decode(targets[1].numpy())
        ('de', 'def')
    """
    return Streams(text, vocabulary, batch_size, length).first_epoch()


class Streams(Batches):
    """The batches of `streams` in all epochs.

    The first epoch begins at the start of the text. With a seed, every later epoch begins at a random position and
    wraps around at the end of the text, so that streams and batches are cut at other positions.
    """

    def __init__(
        self, text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, length: int, seed: int | None = None
    ):
        require.positive_integer("batch_size", batch_size)
        require.positive_integer("length", length)
        self.ids = token_ids(text, vocabulary, by_line=False)
        self._start_id, self._seed = vocabulary.start_id, seed
        self._batch_size, self._length = batch_size, length
        if not len(self):
            raise CorpusError(
                f"the text must have at least batch_size * length = {batch_size} * {length} = {batch_size * length} "
                f"tokens, but it has {len(self.ids)}; use a longer text, or a smaller batch_size or length"
            )

    def __len__(self) -> int:
        return len(self.ids) // (self._batch_size * self._length)

    @property
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        return ((self._batch_size, self._length),) * 2

    def first_epoch(self) -> "tf.data.Dataset":
        """Returns a dataset of the first epoch."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.range(len(self)))

    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns inputs and targets, `(batch_size, length)`."""
        epoch, index = divmod(int(number), len(self))
        begin = index * self._length
        if epoch and self._seed is not None:
            begin += int(np.random.default_rng([self._seed % 2**63, epoch]).integers(len(self.ids)))
        stream = len(self) * self._length
        rows = np.stack([self._read(begin + row * stream) for row in range(self._batch_size)])
        if not index:
            rows[:, 0] = self._start_id
        return rows[:, :-1], rows[:, 1:]

    def _read(self, position: int) -> np.ndarray:
        """Returns the token before a position and the `length` tokens from it on, wrapping around, `(length + 1,)`."""
        begin = (position - 1) % len(self.ids)
        ids = self.ids[begin : begin + self._length + 1]
        while (missing := self._length + 1 - len(ids)) > 0:
            ids = np.concatenate([ids, self.ids[:missing]])
        return ids
