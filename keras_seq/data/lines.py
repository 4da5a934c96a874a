"""Each line of a text as a padded row of its own: `keras_seq.lines`."""

import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_seq import require
from keras_seq.data.batches import Batches
from keras_seq.data.encoded_text import EncodedText, positions_of, token_ids
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError

if TYPE_CHECKING:
    import tensorflow as tf


LONG_LINE = 256  # tokens; a batch of longer lines has fewer rows, so it has at most batch_size * 256 tokens or one line
LONGEST_LINE = 2**16 - 1  # tokens


def lines(text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, seed: int | None = 0) -> "tf.data.Dataset":
    r"""Makes each line of a text a row of its own: from `<s>`, through the line, to `<eos>`, padded with `<pad>`.

    Lines of similar length share a batch, so there is little padding. The order of the batches changes in every epoch.

    Args:
        text: the corpus, as a text or encoded on disk by line (`keras_seq.encode_corpus`); empty lines are left out.
        vocabulary: its vocabulary.
        batch_size: lines per batch; fewer if lines are longer than 256 tokens, and in the last batch.
        seed: seed of the order; None orders the batches by length.

    Returns:
        A dataset of `(inputs, targets, mask)`: `(batch, time)` int32, int32 and float32. The mask is 0 at padding;
        `model.fit` takes it as sample weights. With `reduction="mean_with_sample_weight"` the loss is the mean over
        real tokens.

    Raises:
        ArgumentError: `batch_size` is not a positive integer, or the vocabulary lacks `<pad>`, `<s>` or `<eos>`.
        CorpusError: the text has no lines, or a line of more than 65,535 tokens; or it was encoded with another
            vocabulary or not by line.

    Example:
        >>> vocabulary = Vocabulary.from_text("ab\nabc")
        >>> inputs, targets, mask = next(iter(lines("ab\nabc", vocabulary, batch_size=2)))
        >>> mask.numpy().tolist()
        [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """
    return Lines(text, vocabulary, batch_size, seed).one_epoch()


class Lines(Batches):
    """The batches of `lines` in all epochs. With a seed, each epoch has an order of its own."""

    def __init__(self, text: str | EncodedText, vocabulary: Vocabulary, batch_size: int, seed: int | None):
        require.positive_integer("batch_size", batch_size)
        vocabulary.require_reserved()
        self.ids = token_ids(text, vocabulary, by_line=True)
        self._ends = positions_of(self.ids, vocabulary.eos_id) + 1
        lengths = _require_lengths(np.diff(self._ends, prepend=0))
        # A corpus can have a hundred million lines: every byte of these arrays counts.
        lengths = lengths.astype(np.uint16)
        self._by_length = np.argsort(lengths, kind="stable").astype(np.min_scalar_type(len(lengths)))
        self._begins = _first_lines(lengths[self._by_length], batch_size)
        self._vocabulary, self._seed = vocabulary, seed
        self._epochs = itertools.count()
        self._order = functools.lru_cache(maxsize=1)(self._shuffled)

    def __len__(self) -> int:
        return len(self._begins)

    @property
    def _shapes(self) -> tuple[tuple[int | None, int | None], ...]:
        return ((None, None),) * 3

    def one_epoch(self) -> "tf.data.Dataset":
        """Returns a dataset of one epoch: the first when it is first read, then the second, and so on."""
        import tensorflow as tf

        def numbers() -> Iterator[int]:
            first = next(self._epochs) * len(self)
            return iter(range(first, first + len(self)))

        dataset = tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int64))
        return self._dataset(dataset.apply(tf.data.experimental.assert_cardinality(len(self))))

    def batch(self, number: int) -> tuple[np.ndarray, ...]:
        """Returns inputs, targets and mask, `(lines, time)`."""
        epoch, index = divmod(int(number), len(self))
        position = self._order(epoch)[index]
        end = self._begins[position + 1] if position + 1 < len(self) else None
        lines = self._by_length[self._begins[position] : end]
        ends = self._ends[lines]
        begins = np.where(lines > 0, self._ends[np.maximum(lines, 1) - 1], 0)
        rows = [self.ids[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return padded(rows, self._vocabulary)

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Returns the order of the batches in an epoch, a pure function of the seed and the epoch."""
        order = np.arange(len(self))
        if self._seed is not None:
            np.random.default_rng([self._seed % 2**63, epoch]).shuffle(order)
        return order


def _require_lengths(lengths: np.ndarray) -> np.ndarray:
    """Requires at least one line, and none of more than `LONGEST_LINE` tokens; returns the lengths."""
    if not lengths.size:
        raise CorpusError("the text must have at least one line that is not empty, but it has none; use a longer text")
    longest = int(lengths.argmax())
    if lengths[longest] > LONGEST_LINE:
        raise CorpusError(
            f"a line must have at most {LONGEST_LINE:,} tokens, but line {longest + 1:,}, not counting empty lines, "
            f"has {lengths[longest]:,}; split the line, or read the text as a stream"
        )
    return lengths


def _first_lines(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns the index of the first line of each batch, given the sorted lengths of the lines."""
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
    """Returns inputs, targets and mask, each `(len(rows), longest)`, of rows of token ids that end in `<eos>`."""
    longest = max(len(row) for row in rows)
    targets = np.full((len(rows), longest), vocabulary.pad_id, np.int32)
    mask = np.zeros(targets.shape, np.float32)
    for target, weight, row in zip(targets, mask, rows, strict=True):
        target[: len(row)] = row
        weight[: len(row)] = 1
    inputs = np.concatenate([np.full((len(rows), 1), vocabulary.start_id, np.int32), targets[:, :-1]], axis=1)
    return inputs, targets, mask
