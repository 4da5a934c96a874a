"""Comparing the draws of a .tflite, the signatures `sample` and `write`, with those of the host."""

from typing import Any

import numpy as np

from keras_seq.generation.sampling import SamplingSettings, log_softmax
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import compare, possible_tokens
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import (
    COUNT,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    NEXT_TOKEN,
    SAMPLE,
    TOKEN,
    TOKENS,
    UNIFORM,
    UNIFORMS,
    WRITE,
    WRITE_STEPS,
    state_name,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder

_SETTINGS = (
    SamplingSettings(),
    SamplingSettings(temperature=0.8, top_p=0.95),
    SamplingSettings(top_k=5, min_p=0.02),
    SamplingSettings(temperature=0),
)


def compare_draws(decoder: LiteRTDecoder, tokens: np.ndarray, logits: np.ndarray, states: Any, bias: np.ndarray) -> int:
    """Compares `sample` with the host's draw, and `write` with `sample`; returns the number of near-ties.

    Args:
        decoder: the file.
        tokens: a text in each row, `(batch, steps)`.
        logits: what `decode` returns after each of its tokens, `(batch, steps, vocabulary)`.
        states: the states before the first token.
        bias: added to the logits by `sample`, `(vocabulary,)`.

    Raises:
        ExportError: `sample` or `write` draws another token, or returns something else.
    """
    near_ties = _compare_sample(decoder, tokens, logits, states, bias)
    vocabulary = decoder.bundle.vocabulary
    if vocabulary is not None and decoder.has_write:
        token = np.ascontiguousarray(tokens[:, 0])
        for settings in _SETTINGS:
            token, states = _compare_write(decoder, token, states, settings, vocabulary.eos_id)
    return near_ties


def _compare_sample(
    decoder: LiteRTDecoder, tokens: np.ndarray, logits: np.ndarray, states: Any, bias: np.ndarray
) -> int:
    """Compares the tokens of `sample` with those that the host samples from the logits of `decode`.

    Reading the whole text this way also compares the states that `sample` returns.

    Returns:
        The number of near-ties, for which `sample` may draw either of two tokens.
    """
    near_ties = 0
    for step in range(tokens.shape[1]):
        settings = _SETTINGS[step % len(_SETTINGS)]
        uniforms = [float(uniform(decoder.batch + row, step)) for row in range(decoder.batch)]
        inputs = {TOKEN: np.ascontiguousarray(tokens[:, step]), UNIFORM: np.array(uniforms, np.float32)}
        answer, states = decoder.run(SAMPLE, inputs | decoder.settings_inputs(settings), states)
        for row, (number, sampled) in enumerate(zip(uniforms, answer[NEXT_TOKEN].tolist(), strict=True)):
            possible = possible_tokens(logits[row, step], number, settings, bias)
            if sampled not in possible:
                raise ExportError(
                    f"{SAMPLE}: token {step} from the file is {sampled}; from its logits it must be one of "
                    f"{sorted(possible)}"
                )
            near_ties += len(possible) > 1
            log_probability = log_softmax(logits[row, step])[[sampled]]
            compare(f"{SAMPLE}, {LOG_PROBABILITY}", log_probability, answer[LOG_PROBABILITY][[row]])
    return near_ties


def _compare_write(
    decoder: LiteRTDecoder, token: np.ndarray, states: Any, settings: SamplingSettings, eos_id: int
) -> tuple[np.ndarray, Any]:
    """Compares a call of `write` with calls of `sample`, bit for bit: texts must not depend on the runtime's choice.

    Returns:
        The last token of each row, and the states that `write` returns.
    """
    rows = np.arange(decoder.batch)
    lengths = WRITE_STEPS - 7 * rows % WRITE_STEPS  # Rows end at different steps.
    uniforms = np.stack([uniform(int(row), np.arange(WRITE_STEPS)) for row in rows])
    given = decoder.settings_inputs(settings)
    inputs = {TOKEN: token, UNIFORMS: uniforms, LENGTH: lengths.astype(np.int32)}
    written, after = decoder.run(WRITE, inputs | given, states)
    last = token
    for step in range(WRITE_STEPS):
        number = np.ascontiguousarray(uniforms[:, step])
        sampled, states = decoder.run(SAMPLE, {TOKEN: token, UNIFORM: number, **given}, states)
        token = sampled[NEXT_TOKEN]
        draws, ends = step < written[COUNT], step + 1 == written[COUNT]
        for name, several in ((NEXT_TOKEN, TOKENS), (LOG_PROBABILITY, LOG_PROBABILITIES)):
            _require_same(several, sampled[name][draws], written[several][draws, step])
        for index, (one, other) in enumerate(zip(states, after, strict=True)):
            _require_same(state_name(index), one[ends], other[ends])
        last = np.where(ends, token, last)
    _require_same(COUNT, lengths[last != eos_id], written[COUNT][last != eos_id])
    return last, after


def _require_same(name: str, expected: np.ndarray, found: np.ndarray) -> None:
    if not np.array_equal(expected, found):
        raise ExportError(f"{WRITE}: `{name}` from the file is {found.tolist()}; {SAMPLE} gives {expected.tolist()}")
