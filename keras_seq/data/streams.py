"""A text as contiguous streams, over which the state is carried: `keras_seq.streams`."""

from typing import TYPE_CHECKING

import numpy as np

from keras_seq.data.batches import Batches, encoded_for
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf


def streams(text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, length: int) -> "tf.data.Dataset":
    """Cuts a text into `batch_size` contiguous streams and reads them side by side, `length` tokens at a time.

    Row `b` of each batch goes on where row `b` of the batch before it ended, so that a stateful layer can carry its
    state from batch to batch. Every stream begins with `<s>`. The last part of a stream that does not fill a batch is
    left out.

    Args:
        text: the corpus, as a text or encoded on disk (`keras_seq.encode_corpus`).
        vocabulary: its vocabulary.
        batch_size: number of streams.
        length: tokens in each row of a batch.

    Returns:
        A dataset of `(inputs, targets)`, both `(batch_size, length)` int32; `targets` is `inputs` one token later.

    Raises:
        ValueError: the text is shorter than one batch.

    Example:
        >>> vocabulary = Vocabulary.from_text("abcdef")
        >>> inputs, targets = next(iter(streams("abcdef", vocabulary, batch_size=2, length=3)))
        >>> vocabulary.decode(inputs[1].numpy()), vocabulary.decode(targets[1].numpy())
        ('de', 'def')
    """
    return Streams(text, vocabulary, batch_size, length).once()


class Streams(Batches):
    """The batches of `streams`, over and over.

    The first pass begins where the text does. With a seed every later one begins at another place, and reads from the
    text's end on at its beginning, so that streams and batches are cut elsewhere.
    """

    def __init__(
        self, text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, length: int, seed: int | None = None
    ):
        for name, value in (("batch_size", batch_size), ("length", length)):
            if value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
        self._ids = vocabulary.encode(text) if isinstance(text, str) else encoded_for(text, vocabulary, by_line=False)
        self._start_id, self._seed = vocabulary.start_id, seed
        self._batch_size, self._length = batch_size, length
        if not len(self):
            raise ValueError(
                f"the corpus must have at least batch_size * length = {batch_size} * {length} = {batch_size * length} "
                f"tokens; this one has {len(self._ids)}: use a longer text, or a smaller `batch_size` or `length`"
            )

    def __len__(self) -> int:
        return len(self._ids) // (self._batch_size * self._length)

    @property
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        return ((self._batch_size, self._length),) * 2

    def once(self) -> "tf.data.Dataset":
        """Returns the first pass."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.range(len(self)))

    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns inputs and targets, `(batch_size, length)`."""
        passed, index = divmod(int(number), len(self))
        begin = index * self._length
        if passed and self._seed is not None:
            begin += int(np.random.default_rng([self._seed % 2**63, passed]).integers(len(self._ids)))
        stream = len(self) * self._length
        rows = np.stack([self._read(begin + row * stream) for row in range(self._batch_size)])
        if not index:
            rows[:, 0] = self._start_id
        return rows[:, :-1], rows[:, 1:]

    def _read(self, place: int) -> np.ndarray:
        """Returns the token before a place and those from it on, `(length + 1,)`; after the text's end comes its beginning."""
        begin = (place - 1) % len(self._ids)
        ids = self._ids[begin : begin + self._length + 1]
        while (missing := self._length + 1 - len(ids)) > 0:
            ids = np.concatenate([ids, self._ids[:missing]])
        return ids
