"""Token ids as `tf.data`: contiguous streams, over which the state is carried, or one line a row, padded."""

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.encoded_text import EncodedText, places
from keras_seq.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf

LONG_LINE = 256  # tokens; of longer lines a batch has fewer, so that it has never more than so many in the mean
LONGEST_LINE = 2**16 - 1  # tokens


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


def lines(text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, seed: int | None = 0) -> "tf.data.Dataset":
    r"""Gives each line of a text a row of its own: from `<s>`, through the line, to `<eos>`, padded with `<pad>`.

    Lines of like length share a batch, so that little is padding; the batches come in a new order in every epoch.

    Args:
        text: the corpus, as a text or encoded on disk by line (`keras_seq.encode_corpus`); empty lines are left out.
        vocabulary: its vocabulary.
        batch_size: lines in a batch; fewer where lines are longer than 256 tokens, and in the last batch.
        seed: seed of the order; None keeps the batches in order of length.

    Returns:
        A dataset of `(inputs, targets, mask)`: `(batch, time)` int32, int32 and float32. The mask is 0 at padding;
        `model.fit` takes it as sample weights. With `reduction="mean_with_sample_weight"` the loss is the mean over
        real tokens.

    Raises:
        ValueError: the text has no lines, or a line of more than 65,535 tokens.

    Example:
        >>> vocabulary = Vocabulary.from_text("ab\nabc")
        >>> inputs, targets, mask = next(iter(lines("ab\nabc", vocabulary, batch_size=2)))
        >>> mask.numpy().tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """
    return Lines(text, vocabulary, batch_size, seed).once()


class _Batches(ABC):
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


class Streams(_Batches):
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
        self._ids = vocabulary.encode(text) if isinstance(text, str) else _of(text, vocabulary, by_line=False)
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


class Lines(_Batches):
    """The batches of `lines`, over and over, in another order in each pass."""

    def __init__(self, text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, seed: int | None):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}")
        self._ids = vocabulary.encode_lines(text) if isinstance(text, str) else _of(text, vocabulary, by_line=True)
        self._ends = places(self._ids, vocabulary.eos_id) + 1
        if not self._ends.size:
            raise ValueError("the corpus must have at least one line that is not empty; it has none")
        lengths = np.diff(self._ends, prepend=0)
        longest = int(lengths.argmax())
        if lengths[longest] > LONGEST_LINE:
            raise ValueError(
                f"a line must have at most {LONGEST_LINE:,} tokens, but one of {lengths[longest]:,} came, number {longest + 1:,} of "
                "those that are not empty; cut it, or read the text as a stream, not by line"
            )
        # A corpus can have a hundred million lines: every byte of these arrays counts.
        lengths = lengths.astype(np.uint16)
        self._by_length = np.argsort(lengths, kind="stable").astype(np.min_scalar_type(len(lengths)))
        self._begins = _begins_of_batches(lengths[self._by_length], batch_size)
        self._vocabulary, self._seed = vocabulary, seed
        self._passes = itertools.count()
        self._order = functools.lru_cache(maxsize=1)(self._shuffled)

    def __len__(self) -> int:
        return len(self._begins)

    @property
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        return ((None, None),) * 3

    def once(self) -> "tf.data.Dataset":
        """Returns one pass, in another order each time it is read."""
        import tensorflow as tf

        def numbers() -> Iterator[int]:
            first = next(self._passes) * len(self)
            return iter(range(first, first + len(self)))

        dataset = tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int64))
        return self._dataset(dataset.apply(tf.data.experimental.assert_cardinality(len(self))))

    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns inputs, targets and mask, `(lines, time)`."""
        passed, index = divmod(int(number), len(self))
        place = self._order(passed)[index]
        end = self._begins[place + 1] if place + 1 < len(self) else None
        ends = self._ends[lines := self._by_length[self._begins[place] : end]]
        begins = np.where(lines > 0, self._ends[np.maximum(lines, 1) - 1], 0)
        rows = [self._ids[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return padded(rows, self._vocabulary)

    def _shuffled(self, passed: int) -> np.ndarray:
        """Returns the batches of a pass: its number and the seed give their order, whatever was read before."""
        order = np.arange(len(self))
        if self._seed is not None:
            np.random.default_rng([self._seed % 2**63, passed]).shuffle(order)
        return order


def _of(text: EncodedText, vocabulary: Vocabulary, *, by_line: bool) -> EncodedText:
    """Returns an encoded text, if it is one of this vocabulary, by line or not."""
    if text.vocabulary != vocabulary:
        raise ValueError("`vocabulary` must be that of the encoded text, its attribute `vocabulary`. Received: another")
    if text.by_line != by_line:
        raise ValueError(
            f"the encoded text must be {'lines' if by_line else 'one stream'}, to be read as such. "
            f"Received: one encoded with by_line={text.by_line}"
        )
    return text


def _begins_of_batches(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns which lines, of these lengths in order, begin a batch: a batch of long lines has fewer."""
    begins = []
    begin = 0
    while begin < len(lengths):
        begins.append(begin)
        rows = min(batch_size, len(lengths) - begin)
        while rows > 1 and rows * int(lengths[begin + rows - 1]) > batch_size * LONG_LINE:
            rows -= 1
        begin += rows
    return np.array(begins)


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
