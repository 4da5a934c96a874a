"""Each line of a text as a row of its own, padded: `keras_seq.lines`."""

import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_seq.data.batches import Batches, encoded_for
from keras_seq.data.encoded_text import EncodedText, places
from keras_seq.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf


LONG_LINE = 256  # tokens; of longer lines a batch has fewer, so that it has never more than so many in the mean


LONGEST_LINE = 2**16 - 1  # tokens


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


class Lines(Batches):
    """The batches of `lines`, over and over, in another order in each pass."""

    def __init__(self, text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, seed: int | None):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}")
        self._ids = (
            vocabulary.encode_lines(text) if isinstance(text, str) else encoded_for(text, vocabulary, by_line=True)
        )
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
