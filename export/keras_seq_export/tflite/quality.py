"""What quantization costs: how well a .tflite predicts text beside the model it was made from, in nats per token."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.sampling import log_softmax
from keras_seq.generation.score import segments
from keras_seq_export.comparison import reference_logits

TOKENS = 8192  # predicted in a held-out text; this determines the loss to about 0.0003 nats
WINDOW = 256  # tokens read from the initial states, much like the second figure of `keras-seq evaluate`
_LONGEST_LINE = 1024  # tokens; the rest of a longer line is not read


class Quality(NamedTuple):
    """How well a file predicts text.

    Attributes:
        text: `held_out`; or `own`, a text sampled from the file. There the model's distribution stands in for the
            next token.
        tokens: number of predicted tokens.
        nats_of_model: cross-entropy of the model before quantization, in nats per token.
        nats_of_file: cross-entropy of the file, in nats per token.
        nats_lost: the difference.
        greedy_agreement: share of the tokens for which the model and the file have the same most likely token.
    """

    text: str
    tokens: int
    nats_of_model: float
    nats_of_file: float
    nats_lost: float
    greedy_agreement: float


def quality_on_held_out(model: keras.Model, step: Step, rows: list[np.ndarray]) -> Quality:
    """Measures how well the model and its file predict a text.

    Args:
        model: the model over sequences.
        step: the file.
        rows: token ids int32 `(tokens,)`, as `excerpts` returns them; the first token of each row is not predicted.
    """
    contexts = [row[:-1] for row in rows]

    def predictions() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        for row, context, expected in zip(rows, contexts, reference_logits(model, contexts), strict=True):
            read = step.read(context.tolist(), step.initial_states())
            for of_model, (of_file, _), token in zip(expected, read, row[1:], strict=True):
                yield of_model, of_file, token

    return _quality("held_out", predictions())


def quality_on_own_text(of_model: np.ndarray, of_file: np.ndarray) -> Quality:
    """Measures how far the predictions of a file are from those of its model, without a held-out text.

    Args:
        of_model: logits `(..., vocabulary)` of the model.
        of_file: logits `(..., vocabulary)` of the file after the same tokens.
    """
    size = of_model.shape[-1]
    rows = zip(of_model.reshape(-1, size), of_file.reshape(-1, size), strict=True)
    return _quality("own", ((expected, actual, None) for expected, actual in rows))


def _quality(text: str, predictions: Iterable[tuple[np.ndarray, np.ndarray, int | None]]) -> Quality:
    """Sums over logits `(vocabulary,)` of the model and of the file, and the token that follows, if it is known."""
    nats, tokens, agreeing = np.zeros(2), 0, 0
    for of_model, of_file, token in predictions:
        log_probabilities = log_softmax(np.stack([of_model, of_file]))
        if token is None:
            nats -= log_probabilities @ np.exp(log_probabilities[0])
        else:
            nats -= log_probabilities[:, token]
        tokens += 1
        agreeing += of_model.argmax() == of_file.argmax()
    nats_of_model, nats_of_file = (nats / tokens).tolist()
    return Quality(text, tokens, nats_of_model, nats_of_file, nats_of_file - nats_of_model, float(agreeing / tokens))


def excerpts(held_out: str, vocabulary: Vocabulary, by_line: bool) -> list[np.ndarray]:
    """Returns evenly spaced windows of 256 tokens, or lines, of a text: about 8,192 tokens in all.

    Returns:
        Token ids int32 `(tokens,)`, each row with the token before it in front.

    Raises:
        ValueError: the text is empty, or has characters that the vocabulary lacks.
    """
    start = np.array([vocabulary.start_id], np.int32)
    parts = segments(held_out, vocabulary, by_line=by_line, name="held_out")
    rows = [np.concatenate([start, part[:_LONGEST_LINE] if by_line else part]) for part in parts]
    if not by_line:
        (ids,) = rows
        rows = [ids[first : first + WINDOW + 1] for first in range(0, len(ids) - 1, WINDOW)]
    tokens = sum(map(len, rows)) - len(rows)
    require.that(tokens > 0, "held_out", "a text that is not empty, or None", held_out)
    return rows[:: -(-tokens // TOKENS)]
