"""How well a model predicts a text: nats a token, bits a character, perplexity; exact, every token counted once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_seq.data.lines import padded
from keras_seq.data.vocabulary import Vocabulary, split_words
from keras_seq.generation.decoder_step import Step, check_vocabulary
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import score, segments
from keras_seq.models.checks import require_logits
from keras_seq.models.stateful import reset_states, stateful_copy

_LOGITS_AT_ONCE = 2**24  # 128 MiB in float64


@dataclass(frozen=True)
class Evaluation:
    """The negative log-likelihood of a text.

    Attributes:
        nats: summed over all tokens.
        tokens: number of tokens predicted, `<eos>` of each line included where the text is read line by line.
        characters: number of characters of the text.
        unknown: how many of the tokens are `<unk>`: words that the vocabulary lacks are predicted as one, which is easy.
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
        """Cross-entropy in bits, divided by the characters of the text."""
        return self.nats / math.log(2) / self.characters

    @property
    def perplexity(self) -> float:
        """`exp` of the mean cross-entropy."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.nats_per_token))

    def __str__(self) -> str:
        left_out = f", {self.unknown / self.tokens:.1%} of them <unk>" if self.unknown else ""
        return (
            f"{self.nats_per_token:.4f} nats a token, {self.bits_per_character:.4f} bits a character, "
            f"perplexity {self.perplexity:.3f} over {self.tokens:,} tokens{left_out}"
        )


def evaluate(
    model: keras.Model, vocabulary: Vocabulary, text: str, by_line: bool = False, window: int | None = None
) -> Evaluation:
    """Scores a text with a Keras model.

    The text is read as one stream from `<s>` and the zero state, the state carried to its end; with `by_line` each line
    is read from the zero state to its `<eos>`; with `window` each piece of so many tokens from the zero state and the
    token before it, as models without a state that is carried are scored (nanoGPT's block).

    Args:
        model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        text: the text to predict.
        by_line: whether each line is a sequence of its own.
        window: tokens of a piece; the text's first token is given, not predicted.

    Raises:
        ValueError: the text is empty, `window` is not positive or not of a text read as one, or `model` and `vocabulary`
            do not belong together.
    """
    require_logits(model)
    check_vocabulary(vocabulary, model.output_shape[-1])
    if window is not None:
        rows = _windows(text, vocabulary, by_line, window)
        return _of_windows(_windows_nats(model, rows), rows, text, vocabulary)
    parts = segments(text, vocabulary, by_line=by_line)
    _require_tokens(sum(map(len, parts)))
    nats = _lines_nats(model, parts, vocabulary) if by_line else _stream_nats(model, parts[0], vocabulary)
    return Evaluation(nats, sum(map(len, parts)), len(text), _unknown(parts, vocabulary))


def evaluate_step(
    step: Step, vocabulary: Vocabulary, text: str, by_line: bool = False, window: int | None = None
) -> Evaluation:
    """Scores a text as `evaluate` does, token by token through a one-step decoder, such as that of a .tflite file."""
    if window is not None:
        rows = _windows(text, vocabulary, by_line, window)
        nats = -math.fsum(chance for row in rows for chance in step.log_probabilities(row.tolist()))
        return _of_windows(nats, rows, text, vocabulary)
    token_ids, chances = score(step, vocabulary, text, by_line=by_line)
    _require_tokens(len(token_ids))
    return Evaluation(-math.fsum(chances), len(token_ids), len(text), _unknown([token_ids], vocabulary))


def _of_windows(nats: float, rows: list[np.ndarray], text: str, vocabulary: Vocabulary) -> Evaluation:
    predicted = [row[1:] for row in rows]
    return Evaluation(nats, sum(map(len, predicted)), _predicted(text, vocabulary), _unknown(predicted, vocabulary))


def _unknown(parts: Sequence[np.ndarray], vocabulary: Vocabulary) -> int:
    """Returns how many tokens are `<unk>`."""
    return 0 if vocabulary.unk_id is None else sum(int((np.asarray(part) == vocabulary.unk_id).sum()) for part in parts)


def _predicted(text: str, vocabulary: Vocabulary) -> int:
    """Returns the characters of a text whose first token is given."""
    return len(text) - (len(split_words(text)[0]) if vocabulary.level == "word" else 1)


def _require_tokens(count: int) -> None:
    if count < 1:
        raise ValueError("the text to evaluate must not be empty")


def _windows(text: str, vocabulary: Vocabulary, by_line: bool, window: int) -> list[np.ndarray]:
    """Returns the pieces, each with the token before it, `(window + 1,)`; the last may be shorter."""
    if by_line or isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(
            f"`window` must be a positive integer, and `by_line` False. Received: window={window!r}, by_line={by_line!r}"
        )
    ids = vocabulary.encode(text)
    _require_tokens(len(ids) - 1)
    return [ids[start : start + window + 1] for start in range(0, len(ids) - 1, window)]


def _windows_nats(model: keras.Model, rows: list[np.ndarray]) -> float:
    rows, last = rows[:-1], rows[-1]
    batch_size = max(1, min(256, _LOGITS_AT_ONCE // (len(last if not rows else rows[0]) * model.output_shape[-1])))
    nats = _cross_entropy(model.predict_on_batch(last[None, :-1]), last[None, 1:]).sum()
    for start in range(0, len(rows), batch_size):
        ids = np.stack(rows[start : start + batch_size])
        # Filled up to one size, for which the model is compiled once.
        filled = np.resize(ids[:, :-1], (batch_size, ids.shape[1] - 1))
        nats += _cross_entropy(model.predict_on_batch(filled)[: len(ids)], ids[:, 1:]).sum()
    return float(nats)


def _stream_nats(model: keras.Model, ids: np.ndarray, vocabulary: Vocabulary, length: int = 1024) -> float:
    carried = stateful_copy(model, batch_size=1)
    reset_states(carried)
    inputs = np.concatenate([[vocabulary.start_id], ids[:-1]]).astype(np.int32)
    nats = 0.0
    for start in range(0, len(ids), length):
        piece = slice(start, start + length)
        nats += _cross_entropy(carried.predict_on_batch(inputs[None, piece]), ids[None, piece]).sum()
    return float(nats)


def _lines_nats(model: keras.Model, rows: list[np.ndarray], vocabulary: Vocabulary) -> float:
    rows = sorted(rows, key=len)
    batch_size = min(256, max(1, _LOGITS_AT_ONCE // (len(rows[-1]) * len(vocabulary))))
    nats = 0.0
    for start in range(0, len(rows), batch_size):
        inputs, targets, mask = padded(rows[start : start + batch_size], vocabulary)
        nats += (_cross_entropy(model.predict_on_batch(inputs), targets) * mask).sum()
    return float(nats)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]
