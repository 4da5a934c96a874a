"""The cross-entropy of a text: nats per token, bits per character and perplexity. Every token counts exactly once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_seq import require
from keras_seq.analysis.dynamic_evaluation import DynamicEvaluation, dynamic_nats, training_parts
from keras_seq.data.encoded_text import EncodedText
from keras_seq.data.tokens import split_text
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError, CorpusError, ModelError
from keras_seq.generation.decoder_step import Step, require_version, require_vocabulary
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import score, segments
from keras_seq.models.clone import float32_copy
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
    model: keras.Model,
    vocabulary: Vocabulary,
    text: str,
    by_line: bool = False,
    window: int | None = None,
    dynamic: bool | DynamicEvaluation = False,
    training_text: str | EncodedText | None = None,
) -> Evaluation:
    """Computes the cross-entropy of a text under a Keras model.

    By default, the text is read as one stream from `<s>` and the initial states, and the state is carried to the end. With
    `by_line`, each line is read from these states to its `<eos>`. With `window`, each piece of that many tokens is read
    from these states, after the token before it. Models that carry no state are scored this way (nanoGPT's block).

    With `dynamic`, the model learns from each segment of the text after it has predicted it (`DynamicEvaluation`). Lines
    are then read in their order. A copy in float32 learns; `model` does not change.

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`, or probabilities, whose logarithms are the
            logits.
        vocabulary: its vocabulary.
        text: the text to predict.
        by_line: whether each line is a sequence of its own.
        window: number of tokens in a piece; None reads the text as one stream. The first token of the text is given, not
            predicted.
        dynamic: whether the model learns from the text; or how, if not in the default way.
        training_text: a text that the model was trained on, for the rule "rms"; its first 10,000 tokens are used.

    Raises:
        ArgumentError: an argument is out of range.
        ConfigError: `window` is set together with `by_line` or `dynamic`, or `training_text` without the rule "rms".
        CorpusError: a text is empty.
        TextError: a text has characters outside the vocabulary.
        ModelError: `model` and `vocabulary` do not belong together, or an output is NaN. With `dynamic`, also: the model
            cannot be copied, no weight is trainable, or the learning rate is so large that the model diverged.
        SteppingError: `model` looks into the future, or cannot be read one step at a time for another reason.
    """
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    learning = _learning(vocabulary, dynamic, window, training_text)
    if window is not None:
        pieces = _windows(text, vocabulary, by_line, window)
        return _evaluation_of_windows(_nats(model, vocabulary, pieces), pieces, text, vocabulary)
    parts = segments(text, vocabulary, by_line=by_line)
    _require_tokens(sum(map(len, parts)))
    rows = _rows(parts, vocabulary)
    if learning is None:
        nats = _nats(model, vocabulary, rows)
    else:
        typical = [] if training_text is None else training_parts(training_text, vocabulary, by_line)
        nats = _nats_of_learning(model, vocabulary, rows, learning, _rows(typical, vocabulary))
    return Evaluation(nats, sum(map(len, parts)), len(text), _count_unknown(parts, vocabulary))


def evaluate_step(
    step: Step, vocabulary: Vocabulary, text: str, by_line: bool = False, window: int | None = None
) -> Evaluation:
    """Computes what `evaluate` does, token by token, with a one-step decoder such as that of a .tflite file."""
    if window is not None:
        pieces = _windows(text, vocabulary, by_line, window)
        version = step.learned_version
        log_probabilities = (one for piece in pieces for one in step.log_probabilities(piece.tolist()))
        nats = -math.fsum(log_probabilities)
        require_version(step, version)
        return _evaluation_of_windows(nats, pieces, text, vocabulary)
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


def _learning(
    vocabulary: Vocabulary, dynamic: bool | DynamicEvaluation, window: int | None, training_text: Any
) -> DynamicEvaluation | None:
    """Returns how the model learns from the text, or None; requires arguments that do not contradict each other."""
    is_known = isinstance(dynamic, bool | DynamicEvaluation)
    require.that(is_known, "dynamic", "True, False or a DynamicEvaluation", dynamic)
    settings = DynamicEvaluation() if dynamic is True else dynamic
    learning = settings.for_level(vocabulary.level) if isinstance(settings, DynamicEvaluation) else None
    if learning is not None and window is not None:
        raise ConfigError("{} and {} cannot be combined: each window is read by the trained model", "dynamic", "window")
    if training_text is not None and (learning is None or learning.rule != "rms"):
        has = "False" if learning is None else f"the rule {learning.rule!r}"
        raise ConfigError(f'{{}} needs {{}} with the rule "rms". Received: {has}', "training_text", "dynamic")
    return learning


def _rows(parts: Sequence[np.ndarray], vocabulary: Vocabulary) -> list[np.ndarray]:
    """Returns each part of a text after `<s>`, `(tokens + 1,)`."""
    return [np.concatenate([[vocabulary.start_id], part]) for part in parts]


def _reader(model: keras.Model, vocabulary: Vocabulary, ids: np.ndarray) -> tuple[SequenceReader, SteppedModel]:
    """Returns what reads a model, and its verified one-step form; requires a language model of the vocabulary.

    Args:
        model: the model.
        vocabulary: its vocabulary.
        ids: token ids of a text, see `stepped`.
    """
    stepped = stepped_language_model(model, ids)
    require_vocabulary(vocabulary, stepped.decoder.outputs[0].shape[-1])
    if stepped.has_encoder:
        names = ", ".join(given.name for given in stepped.inputs_at_once)
        raise ModelError(f"`model` must begin by itself, because a text alone has no {names}. Received: {model.name}")
    return SequenceReader(model, stepped), stepped


def _nats_of_learning(
    model: keras.Model,
    vocabulary: Vocabulary,
    rows: Sequence[np.ndarray],
    learning: DynamicEvaluation,
    training_rows: Sequence[np.ndarray],
) -> float:
    """Returns the sum in nats over the tokens of all rows, which a copy of the model learns from."""
    _reader(model, vocabulary, rows[0])  # What it refuses, it refuses before there is a copy.
    copy = float32_copy(model)
    return dynamic_nats(copy, *_reader(copy, vocabulary, rows[0]), rows, learning, training_rows)


def _nats(model: keras.Model, vocabulary: Vocabulary, rows: Sequence[np.ndarray]) -> float:
    """Returns the sum in nats over the tokens of all rows. The first token of each row is given, not predicted.

    Args:
        model: the model; it reads each row from its initial states.
        vocabulary: its vocabulary.
        rows: token ids, each `(tokens + 1,)`.
    """
    reader, stepped = _reader(model, vocabulary, rows[0])
    rows = sorted(rows, key=len)
    length = min(_PIECE, len(rows[-1]))
    batch_size = max(1, min(_LARGEST_BATCH, _MOST_LOGITS // (length * len(vocabulary))))
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
