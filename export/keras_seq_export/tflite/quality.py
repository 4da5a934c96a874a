"""What smaller weights cost: a .tflite on a text beside the model it was made of, in nats a token."""

from typing import NamedTuple

import keras
import numpy as np

from keras_seq.data.vocabulary import EOS, Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.sampling import SamplingSettings, log_softmax, logit_bias
from keras_seq.generation.score import segments
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import reference_outputs

TOKENS = 8192  # of a held-out text that are predicted; the loss is then known to about 0.0003 nats
WINDOW = 256  # tokens read from the zero state at once, much as `keras-seq evaluate` does for its second figure
_LONGEST_LINE = 1024  # tokens; the rest of a line is left out
_OWN_TOKENS = 256  # that the model writes itself where there is no text


class Quality(NamedTuple):
    """How well the file predicts.

    Attributes:
        text: `held_out`, or `own`: drawn from the model, whose own distribution then takes the place of the next token.
        tokens: how many were predicted.
        nats_of_model: a token, by the float model.
        nats_of_file: a token, by the file.
        nats_lost: their difference.
        greedy_agreement: share of the tokens for which both have the same likeliest one.
    """

    text: str
    tokens: int
    nats_of_model: float
    nats_of_file: float
    nats_lost: float
    greedy_agreement: float


def measure_quality(model: keras.Model, step: Step, rows: list[np.ndarray] | None, vocabulary: Vocabulary) -> Quality:
    """Reads a text with the model and with its file.

    Args:
        model: over sequences.
        step: the file.
        rows: excerpts of a text that the model has not learned from, as `excerpts` gives them; None, a text of its own.
        vocabulary: its vocabulary.
    """
    held_out = rows is not None
    rows = rows or [_own_text(step, vocabulary)]
    sums, agreeing = np.zeros(2), 0
    contexts = [row[:-1] for row in rows]
    for row, context, expected in zip(rows, contexts, reference_outputs(model, contexts), strict=True):
        answers = step.read(context.tolist(), step.initial_states())
        for logits, target, (actual, _) in zip(expected, row[1:], answers, strict=True):
            of_both = log_softmax(np.stack([logits, actual]))
            sums -= of_both @ np.exp(of_both[0]) if not held_out else of_both[:, target]
            agreeing += logits.argmax() == actual.argmax()
    tokens = sum(map(len, contexts))
    of_model, of_file = (sums / tokens).tolist()
    return Quality(
        "held_out" if held_out else "own", tokens, of_model, of_file, of_file - of_model, float(agreeing / tokens)
    )


def excerpts(held_out: str, vocabulary: Vocabulary, by_line: bool) -> list[np.ndarray]:
    """Returns windows of 256 tokens, or lines, of a text, evenly spread, each with the token before it; 8,192 tokens in all.

    Raises:
        ValueError: the text is empty, or has characters that the vocabulary lacks.
    """
    start = np.array([vocabulary.start_id], np.int32)
    try:
        parts = segments(held_out, vocabulary, by_line=by_line)
    except ValueError as error:
        raise ValueError(str(error).replace("`text`", "`held_out`").replace("text=", "held_out=")) from error
    rows = [np.concatenate([start, part[:_LONGEST_LINE] if by_line else part]) for part in parts]
    if not by_line:
        (ids,) = rows
        rows = [ids[first : first + WINDOW + 1] for first in range(0, len(ids) - 1, WINDOW)]
    tokens = sum(map(len, rows)) - len(rows)
    if not tokens:
        raise ValueError("`held_out` must be a text that is not empty, or None")
    return rows[:: -(-tokens // TOKENS)]


def _own_text(step: Step, vocabulary: Vocabulary) -> np.ndarray:
    # No model has learned what follows <eos>.
    settings = SamplingSettings(bias={EOS: -np.inf})
    going_on = logit_bias(vocabulary, settings)
    tokens, states = [vocabulary.start_id], step.initial_states()
    for number in uniform(0, np.arange(_OWN_TOKENS)):
        token, states = step.draw(tokens[-1], states, float(number), settings, going_on, [])
        tokens.append(token)
    return np.array(tokens, np.int32)
