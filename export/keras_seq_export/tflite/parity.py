"""A .tflite against the model it was made of: every signature of the file, run in LiteRT, step by step."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_seq.data.vocabulary import EOS, Vocabulary
from keras_seq.generation.sampling import SamplingSettings, log_softmax, logit_bias, next_token
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import TOLERANCE, compare, possible_tokens, reference_outputs
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import (
    DECODE,
    FRAMES,
    LENGTH,
    LOG_PROBABILITY,
    NEXT_TOKEN,
    PREFILL,
    PREFILL_STEPS,
    SAMPLE,
    SAMPLING_INPUTS,
    TOKEN,
    TOKENS,
    UNIFORM,
)
from keras_seq_export.tflite.runtime import LiteRTDecoder

STEPS = 256  # that are compared, of all rows together; of each at least one more than `prefill` takes at once
_DRAWS = (
    SamplingSettings(),
    SamplingSettings(temperature=0.8, top_p=0.95),
    SamplingSettings(top_k=5, min_p=0.02),
    SamplingSettings(temperature=0),
)


def compare_file(
    model: keras.Model,
    vocabulary: Vocabulary | None,
    decoder: LiteRTDecoder,
    added: np.ndarray | None,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Compares `decode` with the sequence model, and `prefill` and `sample` with `decode`.

    Text is drawn from the file itself as it is read, a text a row; frames are random.

    Args:
        model: over sequences.
        vocabulary: None for a model that is not of text.
        decoder: the file.
        added: what the file's `sample` adds to the logits; None without a vocabulary.
        tolerance: how far the outputs of `decode` may be from those of the model.

    Returns:
        What was compared, and the largest difference of an output.

    Raises:
        ExportError: the file does not give what the model does.
    """
    steps = max(STEPS // decoder.batch, PREFILL_STEPS + 1)
    if vocabulary is None:
        values = _random_values(model, decoder.batch, steps)
        outputs, _ = _decode(decoder, steps, lambda step, _: values[:, step])
    else:
        outputs, values = _decode(decoder, steps, _drawing(vocabulary, decoder.batch))
    expected = np.stack(list(reference_outputs(model, list(values))))
    # Logits are of the order of one; what other models give, of any.
    scale = 1.0 if vocabulary is not None else max(1.0, float(np.abs(expected).max()))
    report: dict[str, Any] = {
        "steps_compared": steps * decoder.batch,
        "largest_difference": compare(DECODE, expected, outputs, tolerance * scale),
    }
    if vocabulary is None:
        report["relative_error"] = _relative_error(expected, outputs)
    _compare_prefill(decoder, values, outputs, scale)
    if added is not None:
        report |= _compare_sample(decoder, values, outputs, added)
    return report


def _random_values(model: keras.Model, batch: int, steps: int) -> np.ndarray:
    random = np.random.default_rng(0)
    (inputs,) = model.inputs
    if len(inputs.shape) == 2:  # Token ids; how many there are, the model does not say.
        return random.integers(0, 2, (batch, steps)).astype(np.int32)
    return random.normal(size=(batch, steps, *inputs.shape[2:])).astype(np.float32)


def _drawing(vocabulary: Vocabulary, batch: int) -> Callable[[int, np.ndarray | None], np.ndarray]:
    """Returns what gives each row its next token, from the logits `(batch, vocabulary)` before it."""
    # No model has learned what follows <eos>.
    settings = SamplingSettings(bias={EOS: -np.inf})
    going_on = logit_bias(vocabulary, settings)

    def draw(step: int, logits: np.ndarray | None) -> np.ndarray:
        if logits is None:
            return np.full(batch, vocabulary.start_id, np.int32)
        numbers = [float(uniform(row, step)) for row in range(batch)]
        rows = zip(logits, numbers, strict=True)
        return np.array([next_token(row, number, settings, going_on) for row, number in rows], np.int32)

    return draw


def _decode(
    decoder: LiteRTDecoder, steps: int, value: Callable[[int, np.ndarray | None], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the outputs of `decode` and what it has read, each `(batch, steps, ...)`."""
    states, output = decoder.initial_states(), None
    values, outputs = [], []
    for step in range(steps):
        values.append(value(step, output))
        output, states = decoder(values[-1], states)
        outputs.append(output)
    return np.stack(outputs, axis=1), np.stack(values, axis=1)


def _relative_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """Returns the root mean square of the difference, divided by the spread of what was expected."""
    return float(np.sqrt(np.square(actual - expected).mean()) / max(expected.std(), np.finfo(np.float32).tiny))


def _compare_prefill(decoder: LiteRTDecoder, values: np.ndarray, outputs: np.ndarray, scale: float) -> None:
    """All steps in chunks, and rows of different lengths in one call, must give what `decode` gives."""
    last, _ = decoder.prefill(values, decoder.initial_states())
    compare(PREFILL, outputs[:, -1], last, TOLERANCE * scale)
    rows = np.arange(decoder.batch)
    lengths = 1 + (5 + 37 * rows) % PREFILL_STEPS
    name = TOKENS if np.issubdtype(values.dtype, np.integer) else FRAMES
    inputs = {name: np.ascontiguousarray(values[:, :PREFILL_STEPS]), LENGTH: lengths.astype(np.int32)}
    answer, states = decoder.run(PREFILL, inputs, decoder.initial_states())
    (output,) = answer.values()
    compare(f"{PREFILL}, rows of {', '.join(map(str, lengths))}", outputs[rows, lengths - 1], output, TOLERANCE * scale)
    after, _ = decoder(values[rows, lengths], states)
    compare(f"{PREFILL}, states", outputs[rows, lengths], after, TOLERANCE * scale)


def _compare_sample(
    decoder: LiteRTDecoder, tokens: np.ndarray, logits: np.ndarray, added: np.ndarray
) -> dict[str, int]:
    """`sample` must draw what the host draws from the logits of `decode`, near-ties apart, and go to the same states."""
    states, near_ties = decoder.initial_states(), 0
    for step in range(tokens.shape[1]):
        settings = _DRAWS[step % len(_DRAWS)]
        numbers = [float(uniform(decoder.batch + row, step)) for row in range(decoder.batch)]
        inputs = {TOKEN: np.ascontiguousarray(tokens[:, step]), UNIFORM: np.array(numbers, np.float32)}
        inputs |= {name: np.full(decoder.batch, getattr(settings, name), dtype) for name, dtype in SAMPLING_INPUTS.items()}
        answer, states = decoder.run(SAMPLE, inputs, states)
        for row, (number, drawn) in enumerate(zip(numbers, answer[NEXT_TOKEN].tolist(), strict=True)):
            possible = possible_tokens(logits[row, step], number, settings, added)
            if drawn not in possible:
                raise ExportError(
                    f"{SAMPLE}: token {step} drawn by the file is {drawn}, by the host one of {sorted(possible)}"
                )
            near_ties += len(possible) > 1
            chance = log_softmax(logits[row, step])[[drawn]]
            compare(f"{SAMPLE}, {LOG_PROBABILITY}", chance, answer[LOG_PROBABILITY][[row]])
    return {"draws_compared": tokens.size, "near_ties": near_ties}
