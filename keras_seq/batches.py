"""Token ids as `tf.data`: contiguous streams, over which the state is carried, or one line a row, padded."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.scoring import segments
from keras_seq.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf


def streams(text: str, vocabulary: Vocabulary, batch_size: int, length: int) -> "tf.data.Dataset":
    """Cuts a text into `batch_size` contiguous streams and reads them side by side, `length` tokens at a time.

    Row `b` of each batch goes on where row `b` of the batch before it ended, so that a stateful layer can carry its
    state from batch to batch. Every stream begins with `<s>`. The last part of a stream that does not fill a batch is
    left out.

    Args:
        text: the corpus.
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


def lines(text: str, vocabulary: Vocabulary, batch_size: int, seed: int | None = 0) -> "tf.data.Dataset":
    r"""Gives each line of a text a row of its own: from `<s>`, through the line, to `<eos>`, padded with `<pad>`.

    Lines of like length share a batch, so that little is padding; the batches come in a new order in every epoch.

    Args:
        text: the corpus; empty lines are left out.
        vocabulary: its vocabulary.
        batch_size: lines in a batch; the last batch of an epoch can be smaller.
        seed: seed of the order; None keeps the batches in order of length.

    Returns:
        A dataset of `(inputs, targets, mask)`: `(batch, time)` int32, int32 and float32. The mask is 0 at padding;
        `model.fit` takes it as sample weights. With `reduction="mean_with_sample_weight"` the loss is the mean over
        real tokens.

    Raises:
        ValueError: the text has no lines.

    Example:
        >>> vocabulary = Vocabulary.from_text("ab\nabc")
        >>> inputs, targets, mask = next(iter(lines("ab\nabc", vocabulary, batch_size=2)))
        >>> mask.numpy().tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """
    return Lines(text, vocabulary, batch_size, seed).once()


class Streams:
    """The batches of `streams`, over and over; its `len` is how many there are in one pass through the text.

    The first pass begins where the text does. With a seed every later one begins at another place, and reads from the
    text's end on at its beginning, so that streams and batches are cut elsewhere.
    """

    def __init__(self, text: str, vocabulary: Vocabulary, batch_size: int, length: int, seed: int | None = None):
        for name, value in (("batch_size", batch_size), ("length", length)):
            if value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
        self._ids, self._start_id, self._seed = vocabulary.encode(text), vocabulary.start_id, seed
        self._batch_size, self._length = batch_size, length
        if not len(self):
            raise ValueError(
                f"the corpus must have at least batch_size * length = {batch_size} * {length} = {batch_size * length} "
                f"tokens; this one has {len(self._ids)}: use a longer text, or a smaller `batch_size` or `length`"
            )

    def __len__(self) -> int:
        return len(self._ids) // (self._batch_size * self._length)

    def once(self) -> "tf.data.Dataset":
        """Returns the first pass."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.range(len(self)))

    def from_batch(self, number: int) -> "tf.data.Dataset":
        """Returns pass after pass without end, from this batch on, counted from the first of the first pass."""
        import tensorflow as tf

        return self._dataset(tf.data.Dataset.counter(number))

    def _dataset(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """Returns the batches of these numbers."""
        import tensorflow as tf

        ids, size, batches = tf.constant(self._ids), len(self._ids), len(self)
        rows = tf.range(self._batch_size, dtype=tf.int64)[:, None] * (batches * self._length)
        shape = (self._batch_size, self._length)

        def batch(number: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
            passed, index = number // batches, number % batches
            places = rows + index * self._length + tf.range(self._length, dtype=tf.int64)
            if self._seed is not None:
                begin = tf.random.stateless_uniform([], tf.stack([self._seed % 2**63, passed]), 0, size, tf.int64)
                places += tf.where(passed > 0, begin, 0)
            inputs = tf.gather(ids, (places - 1) % size)
            is_start = (index == 0) & (tf.range(self._length) == 0)
            inputs = tf.where(is_start, self._start_id, inputs)
            return tf.ensure_shape(inputs, shape), tf.ensure_shape(tf.gather(ids, places % size), shape)

        return _prefetched(numbers.map(batch))


class Lines:
    """The batches of `lines`; its `len` is how many there are in one pass through the text."""

    def __init__(self, text: str, vocabulary: Vocabulary, batch_size: int, seed: int | None):
        rows = sorted(segments(text, vocabulary, by_line=True), key=len)
        if not rows:
            raise ValueError("the corpus must have at least one line that is not empty; it has none")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}")
        starts = range(0, len(rows), batch_size)
        self._batches = [padded(rows[start : start + batch_size], vocabulary) for start in starts]
        self._seed = seed
        self._passes = itertools.count()

    def __len__(self) -> int:
        return len(self._batches)

    def once(self) -> "tf.data.Dataset":
        """Returns one pass, in another order each time it is read."""
        import tensorflow as tf

        dataset = self._dataset(lambda: self._in_order(next(self._passes)))
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self)))

    def from_batch(self, number: int) -> "tf.data.Dataset":
        """Returns pass after pass without end, from this batch on, counted from the first of the first pass."""

        def without_end() -> Iterator[tuple[np.ndarray, ...]]:
            first, place = divmod(number, len(self))
            yield from itertools.islice(self._in_order(first), place, None)
            for later in itertools.count(first + 1):
                yield from self._in_order(later)

        return self._dataset(without_end)

    def _in_order(self, number: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields the batches of a pass: its number and the seed give their order, whatever was read before."""
        order = np.arange(len(self))
        if self._seed is not None:
            np.random.default_rng([self._seed % 2**64, number]).shuffle(order)
        return (self._batches[index] for index in order)

    def _dataset(self, batches: Callable[[], Iterator[tuple[np.ndarray, ...]]]) -> "tf.data.Dataset":
        import tensorflow as tf

        kinds = (tf.int32, tf.int32, tf.float32)
        signature = tuple(tf.TensorSpec((None, None), kind) for kind in kinds)
        return _prefetched(tf.data.Dataset.from_generator(batches, output_signature=signature))


def _prefetched(dataset: "tf.data.Dataset") -> "tf.data.Dataset":
    import tensorflow as tf

    options = tf.data.Options()
    # Nothing here is tuned, and ending the tuner at the end of an epoch was seen to wait, idle, for 2 to 18 seconds.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def padded(rows: list[np.ndarray], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns inputs, targets and mask, each `(len(rows), longest)`, of token ids that end in `<eos>`."""
    longest = max(len(row) for row in rows)
    targets = np.full((len(rows), longest), vocabulary.pad_id, np.int32)
    mask = np.zeros(targets.shape, np.float32)
    for target, weight, row in zip(targets, mask, rows, strict=True):
        target[: len(row)] = row
        weight[: len(row)] = 1
    inputs = np.concatenate([np.full((len(rows), 1), vocabulary.start_id, np.int32), targets[:, :-1]], axis=1)
    return inputs, targets, mask
