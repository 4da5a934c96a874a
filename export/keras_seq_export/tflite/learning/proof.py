"""Comparing what a .tflite learns with the same rule in NumPy, before the file is published."""

import numpy as np

from keras_seq_export.comparison import compare
from keras_seq_export.errors import ExportError
from keras_seq_export.learning_rule import RATE as DEFAULT_RATE
from keras_seq_export.learning_rule import Learned, features_of, learn_block, nothing_learned
from keras_seq_export.signatures import (
    DECODE,
    LEARN,
    LEARN_STEPS,
    LOG_PROBABILITIES,
    LOG_SHARES,
    MODEL_LOG_PROBABILITIES,
    RESET_WEIGHTS,
    SET_WEIGHTS,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.draw_parity import compare_draws
from keras_seq_export.tflite.learning.calls import get_learned, run_learn, set_learned
from keras_seq_export.tflite.parity import Reading, compare_prefill

_TOLERANCE = 1e-3  # of a log-probability or weight after four blocks; float32 kernels differ by about 1e-6
# P is quantized, and so are the states that it multiplies. Weights that were learned differ by 0.8 % of their size in int8
# files of trained models, and by 3 to 6 % in int4 files. Small models that know little differ more.
_QUANTIZED_TOLERANCE = 0.3


def prove_learning(
    decoder: LiteRTDecoder, reading: Reading, projection: np.ndarray, bias: np.ndarray, is_quantized: bool
) -> float:
    """Runs every signature of a file that learns, and compares it with NumPy's `learn_block`.

    `decode` was compared with the model before: its logits and states are what NumPy learns from. Here `learn` must return
    and store what NumPy does, block by block; `decode`, `prefill`, `sample` and `write` must use what was learned alike; and
    `set_weights` and `reset_weights` must give back the logits bit for bit. At the end nothing is learned.

    Args:
        decoder: the file, which has learned nothing.
        reading: what the file returned for its own text.
        projection: P, `(features - 1, units)`.
        bias: added to the logits by the file's `sample`, `(vocabulary,)`.
        is_quantized: whether the weights of the file are quantized.

    Returns:
        The largest difference of a log-probability or of a weight, whose root mean square is taken as 1.

    Raises:
        ExportError: a signature returns something else.
    """
    (tokens,), (logits,) = reading.values, reading.outputs
    tolerance = _QUANTIZED_TOLERANCE if is_quantized else _TOLERANCE
    features = features_of(_states(decoder, tokens), projection)
    learned, states, difference = nothing_learned(*decoder.weights_shape), decoder.initial_states(), 0.0
    for start in range(0, tokens.shape[1] - 1, LEARN_STEPS):
        steps = slice(start, min(start + LEARN_STEPS, tokens.shape[1] - 1))
        next_tokens = tokens[0, steps.start + 1 : steps.stop + 1]
        *expected, learned = learn_block(logits[0, steps], features[steps], next_tokens, DEFAULT_RATE, learned)
        found, states = run_learn(decoder, tokens[0, steps], next_tokens, DEFAULT_RATE, states)
        # What the model alone gives is the same in `learn` and `decode`, whatever is quantized.
        limits = {LOG_PROBABILITIES: tolerance, MODEL_LOG_PROBABILITIES: _TOLERANCE}
        for (name, limit), values, actual in zip(limits.items(), expected, found, strict=True):
            difference = max(difference, compare(f"{LEARN}, {name}", values, actual, limit))
        difference = max(difference, _compare_learned(learned, get_learned(decoder), tolerance))
    _compare_use(decoder, reading, features, bias, tolerance)
    return difference


def _states(decoder: LiteRTDecoder, tokens: np.ndarray) -> np.ndarray:
    """Returns all states in one row after each token `(1, tokens)`, `(tokens, units)`."""
    states, found = decoder.initial_states(), []
    for token in tokens.T:
        _, states = decoder.step([np.ascontiguousarray(token)], states)
        found.append(np.concatenate(states, axis=1))
    return np.concatenate(found)


def _compare_learned(expected: Learned, found: Learned, tolerance: float) -> float:
    # A model that is sure of its own text learns almost nothing from it, and rounding errors are then as large as the weights.
    size = max(1.0, float(np.linalg.norm(expected.weights)))
    error = float(np.linalg.norm(found.weights - expected.weights)) / size
    if not error <= tolerance:
        raise ExportError(f"{LEARN}: the weights of the file differ by {error:.1%} of their size from the rule's")
    shares = compare(f"{LEARN}, {LOG_SHARES}", np.exp(expected.log_shares), np.exp(found.log_shares), tolerance)
    return max(error, shares)


def _compare_use(
    decoder: LiteRTDecoder, reading: Reading, features: np.ndarray, bias: np.ndarray, tolerance: float
) -> None:
    """Compares the signatures that use what was learned, sets it again, and resets it."""
    (tokens,), (logits,) = reading.values, reading.outputs
    learned = _telling(decoder.weights_shape)
    set_learned(decoder, learned)
    decoded = _logits(decoder, tokens)
    added = learned.weight * (features @ learned.weights.T)
    size = np.abs(added).max()
    compare(f"{DECODE} after {SET_WEIGHTS}", added / size, (decoded[0] - logits[0]) / size, tolerance)
    compare_prefill(decoder, reading._replace(outputs=[decoded]), decoder.initial_states(), [np.float32(1)])
    compare_draws(decoder, tokens, decoded, decoder.initial_states(), bias)
    decoder.call(RESET_WEIGHTS, {})
    _require_same(RESET_WEIGHTS, logits, _logits(decoder, tokens))
    set_learned(decoder, learned)
    _require_same(SET_WEIGHTS, decoded, _logits(decoder, tokens))
    decoder.call(RESET_WEIGHTS, {})


def _telling(shape: tuple[int, int]) -> Learned:
    """Returns weights that change the logits by about 1. Those learned from the model's own text may change them by nothing."""
    weights = np.random.default_rng(0).normal(scale=shape[1] ** -0.5, size=shape).astype(np.float32)
    return Learned(weights, np.log([0.2, 0.3, 0.5]).astype(np.float32))


def _logits(decoder: LiteRTDecoder, tokens: np.ndarray) -> np.ndarray:
    """Returns the logits of `decode` after each token `(1, tokens)`, `(1, tokens, vocabulary)`."""
    states, found = decoder.initial_states(), []
    for token in tokens.T:
        (logits,), states = decoder.step([np.ascontiguousarray(token)], states)
        found.append(logits)
    return np.stack(found, axis=1)


def _require_same(name: str, expected: np.ndarray, found: np.ndarray) -> None:
    if not np.array_equal(expected, found):
        difference = float(np.abs(expected - found).max())
        raise ExportError(f"{name}: the logits must be what they were, bit for bit; they differ by {difference:.3g}")
