"""Dynamic evaluation (Krause et al. 2018, arXiv 1709.07432): a model learns from a text while it predicts it.

By default, a model of characters learns by the rule "rms" and a model of words by "sgd".
docs/decisions/dynamic-evaluation.md has the measurements that the rules and their defaults come from.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq import require
from keras_seq.data.encoded_text import EncodedText, token_ids
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import CorpusError, ModelError
from keras_seq.models.sequence_reader import SequenceReader
from keras_seq.models.step_model import SteppedModel

RULES = ("rms", "sgd")
_RULE = {"char": "rms", "word": "sgd"}
_LEARNING_RATES = {"rms": {"char": 5e-4, "word": 2e-4}, "sgd": {"char": 0.05, "word": 0.05}}
_SEGMENTS = {"char": 20, "word": 5}
# Times the root mean square of all r. With a tenth of their mean, embeddings of rare tokens, whose r is about 0, diverged.
_EPSILON = 0.3
_TRAINING_TOKENS = 10_000
_LONGEST_TOKENS = 16  # characters of a token on average, at most
_WORST = 10  # times the nats of a uniform guess
_LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class DynamicEvaluation:
    """How a model learns from the text on which it is evaluated (dynamic evaluation, Krause et al. 2018).

    After each segment, each trainable weight w, which was w0 after training, becomes w - learning_rate * g / scale +
    decay * (w0 - w). g is the gradient of the nats of the segment, divided by its length. Gradients do not reach back to
    earlier segments.

    * "sgd": scale is 1.
    * "rms": scale is r + 0.3 R. r is the root mean square of g over the segments of the training text; if none is given,
      over the segments that were read so far. R is the root mean square of all r. The decay of each weight is multiplied by
      r / (mean of all r), and is at most 1.

    Attributes:
        rule: "rms" or "sgd"; None is "rms" for characters and "sgd" for words.
        learning_rate: size of the steps; with 0, the model stays as it was trained. None is 5e-4 for characters and 2e-4
            for words with "rms", and 0.05 with "sgd".
        decay: how far each step goes back to the trained weights, at least 0 and below 1.
        segment: number of tokens in a segment; None is 20 for characters and 5 for words.

    Raises:
        ArgumentError: a value is out of range.

    Example:
        >>> DynamicEvaluation(rule="sgd").for_level("char")
        DynamicEvaluation(rule='sgd', learning_rate=0.05, decay=0.004, segment=20)
    """

    rule: str | None = None
    learning_rate: float | None = None
    decay: float = 4e-3
    segment: int | None = None

    def __post_init__(self) -> None:
        if self.rule is not None:
            require.one_of("rule", self.rule, RULES)
        rate = self.learning_rate
        if rate is not None:
            in_range = require.is_number(rate) and 0 <= rate <= _LARGEST
            require.that(in_range, "learning_rate", "a finite number of at least 0, or None", rate)
        require.fraction("decay", self.decay)
        if self.segment is not None:
            require.positive_integer("segment", self.segment)

    def for_level(self, level: str) -> "DynamicEvaluation":
        """Returns these settings with the defaults of a level in place of None: those of characters, or of words."""
        level = "char" if level == "char" else "word"
        rule = _RULE[level] if self.rule is None else self.rule
        rate = _LEARNING_RATES[rule][level] if self.learning_rate is None else self.learning_rate
        segment = _SEGMENTS[level] if self.segment is None else self.segment
        return dataclasses.replace(self, rule=rule, learning_rate=rate, segment=segment)


def training_parts(text: str | EncodedText, vocabulary: Vocabulary, by_line: bool) -> list[np.ndarray]:
    """Returns the token ids at the beginning of a training text, or those of each line there, `(tokens,)`.

    Raises:
        ArgumentError: `text` is not a text.
        CorpusError: it is empty, or was encoded in another way.
        TextError: it has characters outside the vocabulary.
    """
    require.that(isinstance(text, str | EncodedText), "training_text", "a str or an EncodedText", text)
    beginning = text[: _TRAINING_TOKENS * _LONGEST_TOKENS] if isinstance(text, str) else text
    ids = token_ids(beginning, vocabulary, by_line=by_line, name="training_text")[:_TRAINING_TOKENS]
    if not len(ids):
        raise CorpusError("{} must not be empty", "training_text")
    if not by_line:
        return [ids]
    return [part for part in np.split(ids, np.flatnonzero(ids == vocabulary.eos_id) + 1) if len(part)]


def dynamic_nats(
    model: keras.Model,
    reader: SequenceReader,
    stepped: SteppedModel,
    rows: Sequence[np.ndarray],
    settings: DynamicEvaluation,
    training_rows: Sequence[np.ndarray] = (),
) -> float:
    """Returns the sum in nats over rows that a model reads in their order; it learns from each segment after predicting it.

    Args:
        model: the model. Its trainable weights are changed.
        reader: reads the model.
        stepped: its verified one-step form.
        rows: token ids, each `(tokens + 1,)`, read from the initial states. The first token is given, not predicted.
        settings: how to learn, without None.
        training_rows: rows from which the statistics of the gradients are collected before.

    Raises:
        ModelError: no weight is trainable, or the model diverged.
    """
    longest = max(len(row) for row in (*rows, *training_rows)) - 1
    learner = _Learner(model, reader, stepped, settings, steps=min(longest, settings.segment or 1))
    for row in training_rows:
        learner.read(row, learner.observe)
    learner.adds_squares = not training_rows
    nats = math.fsum(learner.read(row, learner.learn) for row in rows)
    _require_sensible(nats / sum(len(row) - 1 for row in rows), stepped.decoder.outputs[0].shape[-1], settings)
    return nats


def _require_sensible(nats: float, vocabulary_size: int, settings: DynamicEvaluation) -> None:
    """Requires that a model did not become worse than any that has learned something."""
    if not settings.learning_rate and math.isnan(nats):
        raise ModelError("the text cannot be evaluated: the model's logits are NaN")
    if settings.learning_rate and not nats <= _WORST * math.log(vocabulary_size):
        raise ModelError(
            f"dynamic evaluation diverged, to {nats:.4g} nats per token, because {{}}={settings.learning_rate:g} is too large "
            "for this model; set a lower one",
            "learning_rate",
        )


class _Learner:
    """A model that reads texts in segments and learns from them.

    Args:
        model: see `dynamic_nats`.
        reader: see `dynamic_nats`.
        stepped: see `dynamic_nats`.
        settings: see `dynamic_nats`.
        steps: number of tokens that are read in one call; at most those of a segment.

    Attributes:
        adds_squares: whether `learn` adds to the statistics of the gradients; it must be set before the first call.
    """

    def __init__(
        self,
        model: keras.Model,
        reader: SequenceReader,
        stepped: SteppedModel,
        settings: DynamicEvaluation,
        steps: int,
    ):
        self._reader, self._stepped, self._settings, self._steps = reader, stepped, settings, steps
        self._weights = [weight.value for weight in model.trainable_variables]
        if not self._weights:
            raise ModelError(f"`model` must have trainable weights to learn from a text. Received: {model.name}")
        self._trained = [tf.identity(weight) for weight in self._weights]
        self._squares = [tf.Variable(tf.zeros_like(weight)) for weight in self._weights]  # sums over all segments
        self._segments = tf.Variable(0.0)
        self.adds_squares = True
        # A graph for each: the number of steps is the same in all calls, because the last segment of a row is padded.
        self.learn = tf.function(self._learn, autograph=False)
        self.observe = tf.function(self._observe, autograph=False)

    def read(self, row: np.ndarray, call: Any) -> float:
        """Returns the sum in nats over a row that is read with `learn` or `observe`, with its states carried."""
        states, nats = list(map(tf.constant, self._reader.initial_states(1))), 0.0
        for ids, counts in self._parts(row):
            part, states = call(tf.constant(ids), tf.constant(counts), states)
            nats += float(part)
            if not math.isfinite(nats):
                break
        return nats

    def _parts(self, row: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the ids of each segment, with the token before it, int32 `(1, steps + 1)`, and which count `(1, steps)`."""
        for start in range(0, len(row) - 1, self._steps):
            part = row[start : start + self._steps + 1]
            missing = self._steps + 1 - len(part)
            # Not <pad>, to which a model may give the probability 0.
            ids = np.pad(part, (0, missing), mode="edge").astype(np.int32)
            yield ids[None], (np.arange(self._steps) < len(part) - 1)[None]

    def _gradients(self, ids: Any, counts: Any, states: list[Any]) -> tuple[list[Any], Any, list[Any]]:
        """Returns the gradient of each weight, the nats of the segment and the states after it."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._weights)
            outputs, states = self._reader.run(ids[:, :-1], states)
            logits = tf.cast(self._stepped.logits_of(outputs), tf.float32)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits)
            nats = tf.reduce_sum(tf.where(counts, each, 0.0))
            # Not by the number of tokens that count, with which the last ones of a line would change the weights more.
            loss = nats / float(self._settings.segment or 1)
        gradients = tape.gradient(loss, self._weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return list(map(tf.convert_to_tensor, gradients)), nats, states

    def _observe(self, ids: Any, counts: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Reads a segment for the statistics of the gradients alone."""
        gradients, nats, states = self._gradients(ids, counts, states)
        self._add_squares(gradients)
        return nats, states

    def _learn(self, ids: Any, counts: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Reads a segment and learns from it."""
        gradients, nats, states = self._gradients(ids, counts, states)
        rate, decay = float(self._settings.learning_rate or 0), self._settings.decay
        if self._settings.rule == "rms":
            if self.adds_squares:
                self._add_squares(gradients)
            steps, decays = self._scaled(gradients, decay)
        else:
            steps, decays = gradients, [decay] * len(gradients)
        for weight, trained, step, back in zip(self._weights, self._trained, steps, decays, strict=True):
            weight.assign_add(back * (trained - weight) - rate * step)
        return nats, states

    def _add_squares(self, gradients: list[Any]) -> None:
        self._segments.assign_add(1.0)
        for square, gradient in zip(self._squares, gradients, strict=True):
            square.assign_add(gradient**2)

    def _scaled(self, gradients: list[Any], decay: float) -> tuple[list[Any], list[Any]]:
        """Returns the gradients divided by their scales, and the decay of each weight."""
        roots = [tf.sqrt(square / self._segments) for square in self._squares]
        count = float(sum(math.prod(root.shape) for root in roots))
        mean = tf.add_n(list(map(tf.reduce_sum, roots))) / count
        epsilon = _EPSILON * tf.sqrt(tf.add_n([tf.reduce_sum(root**2) for root in roots]) / count)
        pairs = zip(gradients, roots, strict=True)
        steps = [tf.math.divide_no_nan(gradient, root + epsilon) for gradient, root in pairs]
        return steps, [tf.minimum(1.0, tf.math.divide_no_nan(decay * root, mean)) for root in roots]
