"""The cross-entropy of a text: nats per token, bits per character and perplexity. Every token counts exactly once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_seq import require
from keras_seq.data.lines import padded
from keras_seq.data.tokens import split_words
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError, CorpusError
from keras_seq.generation.decoder_step import Step, require_vocabulary
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import score, segments
from keras_seq.models.checks import require_logits
from keras_seq.models.stateful import reset_states, stateful_copy

_MOST_LOGITS = 2**24  # logits in memory at a time: 128 MiB in float64
_LARGEST_BATCH = 256
_PIECE = 1024  # tokens of a stream that are read in one call


@dataclass(frozen=True)
class Evaluation:
    """The negative log-likelihood of a text.

    Attributes:
        nats: negative log-likelihood in nats, summed over all tokens.
        tokens: number of tokens predicted. If the text is read line by line, this includes the `<eos>` of each line.
        characters: number of characters predicted.
        unknown: number of these tokens that are `<unk>`. All words outside the vocabulary share this token, which makes it
            easy to predict.
    """

    nats: float
    tokens: int
    characters: int
    unknown: int = 0

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy in nats."""
        return self.nats / self.tokens

    @property
    def bits_per_character(self) -> float:
        """Cross-entropy in bits, divided by the number of characters."""
        return self.nats / math.log(2) / self.characters

    @property
    def perplexity(self) -> float:
        """`exp` of the mean cross-entropy."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.nats_per_token))

    def __str__(self) -> str:
        unknown = f", {self.unknown / self.tokens:.1%} of them <unk>" if self.unknown else ""
        return (
            f"{self.nats_per_token:.4f} nats per token, {self.bits_per_character:.4f} bits per character, "
            f"perplexity {self.perplexity:.3f} over {self.tokens:,} tokens{unknown}"
        )


def evaluate(
    model: keras.Model, vocabulary: Vocabulary, text: str, by_line: bool = False, window: int | None = None
) -> Evaluation:
    """Computes the cross-entropy of a text under a Keras model.

    By default, the text is read as one stream from `<s>` and the zero state, and the state is carried to the end. With
    `by_line`, each line is read from the zero state to its `<eos>`. With `window`, each piece of that many tokens is read
    from the zero state, after the token before it. Models that carry no state are scored this way (nanoGPT's block).

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        text: the text to predict.
        by_line: whether each line is a sequence of its own.
        window: number of tokens in a piece; None reads the text as one stream. The first token of the text is given, not
            predicted.

    Raises:
        ArgumentError: `window` is not a positive integer.
        ConfigError: both `window` and `by_line` are set.
        CorpusError: the text is empty.
        ValueError: `model` and `vocabulary` do not belong together, or the text has characters outside the vocabulary.
    """
    require_logits(model)
    require_vocabulary(vocabulary, model.output_shape[-1])
    if window is not None:
        pieces = _windows(text, vocabulary, by_line, window)
        return _evaluation_of_windows(_windows_nats(model, pieces), pieces, text, vocabulary)
    parts = segments(text, vocabulary, by_line=by_line)
    _require_tokens(sum(map(len, parts)))
    nats = _lines_nats(model, parts, vocabulary) if by_line else _stream_nats(model, parts[0], vocabulary)
    return Evaluation(nats, sum(map(len, parts)), len(text), _count_unknown(parts, vocabulary))


def evaluate_step(
    step: Step, vocabulary: Vocabulary, text: str, by_line: bool = False, window: int | None = None
) -> Evaluation:
    """Computes what `evaluate` does, token by token, with a one-step decoder such as that of a .tflite file."""
    if window is not None:
        pieces = _windows(text, vocabulary, by_line, window)
        log_probabilities = (one for piece in pieces for one in step.log_probabilities(piece.tolist()))
        return _evaluation_of_windows(-math.fsum(log_probabilities), pieces, text, vocabulary)
    scored = score(step, vocabulary, text, by_line=by_line)
    _require_tokens(len(scored.token_ids))
    nats = -math.fsum(scored.log_probabilities)
    return Evaluation(nats, len(scored.token_ids), len(text), _count_unknown([scored.token_ids], vocabulary))


def _evaluation_of_windows(nats: float, pieces: list[np.ndarray], text: str, vocabulary: Vocabulary) -> Evaluation:
    predicted = [piece[1:] for piece in pieces]
    given = len(split_words(text)[0]) if vocabulary.level == "word" else 1  # characters of the first token
    return Evaluation(nats, sum(map(len, predicted)), len(text) - given, _count_unknown(predicted, vocabulary))


def _count_unknown(parts: Sequence[np.ndarray], vocabulary: Vocabulary) -> int:
    """Returns the number of `<unk>` tokens."""
    return 0 if vocabulary.unk_id is None else sum(int((np.asarray(part) == vocabulary.unk_id).sum()) for part in parts)


def _require_tokens(count: int) -> None:
    if count < 1:
        raise CorpusError("the text to evaluate must not be empty")


def _windows(text: str, vocabulary: Vocabulary, by_line: bool, window: int) -> list[np.ndarray]:
    """Returns the pieces of a text, each after the token before it: `(window + 1,)`; the last may be shorter."""
    require.positive_integer("window", window)
    if by_line:
        raise ConfigError("{} and {} cannot be combined", "window", "by_line")
    ids = vocabulary.encode(text)
    _require_tokens(len(ids) - 1)
    return [ids[start : start + window + 1] for start in range(0, len(ids) - 1, window)]


def _windows_nats(model: keras.Model, pieces: list[np.ndarray]) -> float:
    *pieces, last = pieces
    batch_size = _batch_size(len(pieces[0] if pieces else last), model.output_shape[-1])
    nats = _cross_entropy(model.predict_on_batch(last[None, :-1]), last[None, 1:]).sum()
    for start in range(0, len(pieces), batch_size):
        ids = np.stack(pieces[start : start + batch_size])
        # The last batch is filled up to the size of the others, so the model is compiled once.
        inputs = np.resize(ids[:, :-1], (batch_size, ids.shape[1] - 1))
        nats += _cross_entropy(model.predict_on_batch(inputs)[: len(ids)], ids[:, 1:]).sum()
    return float(nats)


def _stream_nats(model: keras.Model, ids: np.ndarray, vocabulary: Vocabulary) -> float:
    stateful = stateful_copy(model, batch_size=1)
    reset_states(stateful)
    inputs = np.concatenate([[vocabulary.start_id], ids[:-1]]).astype(np.int32)
    nats = 0.0
    for start in range(0, len(ids), _PIECE):
        piece = slice(start, start + _PIECE)
        nats += _cross_entropy(stateful.predict_on_batch(inputs[None, piece]), ids[None, piece]).sum()
    return float(nats)


def _lines_nats(model: keras.Model, lines: list[np.ndarray], vocabulary: Vocabulary) -> float:
    lines = sorted(lines, key=len)
    batch_size = _batch_size(len(lines[-1]), len(vocabulary))
    nats = 0.0
    for start in range(0, len(lines), batch_size):
        inputs, targets, mask = padded(lines[start : start + batch_size], vocabulary)
        nats += (_cross_entropy(model.predict_on_batch(inputs), targets) * mask).sum()
    return float(nats)


def _batch_size(length: int, vocabulary_size: int) -> int:
    """Returns how many rows of a length can be read at a time."""
    return max(1, min(_LARGEST_BATCH, _MOST_LOGITS // (length * vocabulary_size)))


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]
