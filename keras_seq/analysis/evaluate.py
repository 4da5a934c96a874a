"""The cross-entropy of a text: nats per token, bits per character and perplexity. Every token counts exactly once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_seq import require
from keras_seq.data.tokens import split_text
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError, CorpusError, ModelError
from keras_seq.generation.decoder_step import Step, require_vocabulary
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import score, segments
from keras_seq.models.sequence_reader import SequenceReader
from keras_seq.models.step_model import SteppedModel, stepped_language_model

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

    By default, the text is read as one stream from `<s>` and the initial states, and the state is carried to the end. With
    `by_line`, each line is read from these states to its `<eos>`. With `window`, each piece of that many tokens is read
    from these states, after the token before it. Models that carry no state are scored this way (nanoGPT's block).

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or probabilities, whose logarithms are the
            logits.
        vocabulary: its vocabulary.
        text: the text to predict.
        by_line: whether each line is a sequence of its own.
        window: number of tokens in a piece; None reads the text as one stream. The first token of the text is given, not
            predicted.

    Raises:
        ArgumentError: `window` is not a positive integer.
        ConfigError: both `window` and `by_line` are set.
        CorpusError: the text is empty.
        TextError: the text has characters outside the vocabulary.
        ModelError: `model` and `vocabulary` do not belong together, or an output is NaN.
        SteppingError: `model` looks into the future, or cannot be read one step at a time for another reason.
    """
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    if window is not None:
        pieces = _windows(text, vocabulary, by_line, window)
        return _evaluation_of_windows(_nats(model, vocabulary, pieces), pieces, text, vocabulary)
    parts = segments(text, vocabulary, by_line=by_line)
    _require_tokens(sum(map(len, parts)))
    nats = _nats(model, vocabulary, [np.concatenate([[vocabulary.start_id], part]) for part in parts])
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
    first = split_text(text, vocabulary.level)[0]
    given = text.index(first) + len(first)  # characters up to the end of the first token
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


def _nats(model: keras.Model, vocabulary: Vocabulary, rows: Sequence[np.ndarray]) -> float:
    """Returns the sum in nats over the tokens of all rows. The first token of each row is given, not predicted.

    Args:
        model: the model; it reads each row from its initial states.
        vocabulary: its vocabulary.
        rows: token ids, each `(tokens + 1,)`.
    """
    stepped = stepped_language_model(model, rows[0])
    vocabulary_size = stepped.decoder.outputs[0].shape[-1]
    require_vocabulary(vocabulary, vocabulary_size)
    if stepped.has_encoder:
        names = ", ".join(given.name for given in stepped.inputs_at_once)
        raise ModelError(f"`model` must begin by itself, because a text alone has no {names}. Received: {model.name}")
    reader = SequenceReader(model, stepped)
    rows = sorted(rows, key=len)
    length = min(_PIECE, len(rows[-1]))
    batch_size = max(1, min(_LARGEST_BATCH, _MOST_LOGITS // (length * vocabulary_size)))
    batches = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    return math.fsum(_batch_nats(reader, stepped, batch) for batch in batches)


def _batch_nats(reader: SequenceReader, stepped: SteppedModel, rows: Sequence[np.ndarray]) -> float:
    """Returns the sum in nats over rows that are read at the same time, in pieces, with their states carried."""
    longest = max(map(len, rows))
    padded, mask = np.zeros((len(rows), longest), np.int32), np.zeros((len(rows), longest - 1))
    for index, row in enumerate(rows):
        padded[index, : len(row)], mask[index, : len(row) - 1] = row, 1
    inputs, targets = padded[:, :-1], padded[:, 1:]
    states, nats = reader.initial_states(len(rows)), 0.0
    for start in range(0, longest - 1, reader.steps or _PIECE):
        piece = slice(start, start + (reader.steps or _PIECE))
        outputs, states = reader(inputs[:, piece], states)
        nats += (_cross_entropy(np.asarray(stepped.logits_of(outputs)), targets[:, piece]) * mask[:, piece]).sum()
    return float(nats)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]
