"""Calls of the signatures with which a .tflite learns. Imports neither TensorFlow nor Keras."""

from typing import Any

import numpy as np

from keras_seq_export.learning_rule import Learned
from keras_seq_export.signatures import (
    GET_WEIGHTS,
    LEARN,
    LEARN_STEPS,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_SHARES,
    MODEL_LOG_PROBABILITIES,
    NEXT_TOKENS,
    RATE,
    SET_WEIGHTS,
    TOKENS,
    WEIGHTS,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder


def get_learned(decoder: LiteRTDecoder) -> Learned:
    """Returns what a file has learned."""
    outputs = decoder.call(GET_WEIGHTS, {})
    return Learned(outputs[WEIGHTS], outputs[LOG_SHARES])


def set_learned(decoder: LiteRTDecoder, learned: Learned) -> None:
    """Replaces what a file has learned."""
    decoder.call(SET_WEIGHTS, {WEIGHTS: learned.weights, LOG_SHARES: learned.log_shares})


def run_learn(
    decoder: LiteRTDecoder, tokens: np.ndarray, next_tokens: np.ndarray, rate: float, states: Any
) -> tuple[np.ndarray, Any]:
    """Learns from a block of a text.

    Args:
        decoder: a file that learns.
        tokens: `(tokens,)`, at most `LEARN_STEPS`.
        next_tokens: the token after each, `(tokens,)`.
        rate: the learning rate.
        states: those before the first token.

    Returns:
        The log-probabilities of the next tokens before they are learned, and those of the model alone, float32 `(2, tokens)`; and
        the new states.
    """
    count = len(tokens)
    inputs = {
        name: np.pad(one, (0, LEARN_STEPS - count)).astype(np.int32)[None]
        for name, one in ((TOKENS, tokens), (NEXT_TOKENS, next_tokens))
    }
    inputs |= {LENGTH: np.array([count], np.int32), RATE: np.array([rate], np.float32)}
    outputs, states = decoder.run(LEARN, inputs, states)
    return np.stack([outputs[name][0, :count] for name in (LOG_PROBABILITIES, MODEL_LOG_PROBABILITIES)]), states
