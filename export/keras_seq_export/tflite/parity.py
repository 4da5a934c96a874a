"""Comparing a .tflite with its model: every signature of the file, run in LiteRT step by step."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_seq.data.tokens import EOS
from keras_seq.data.vocabulary import Vocabulary
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

STEPS = 256  # compared over all rows together; each row has more than one call of `prefill` can read
_SETTINGS = (
    SamplingSettings(),
    SamplingSettings(temperature=0.8, top_p=0.95),
    SamplingSettings(top_k=5, min_p=0.02),
    SamplingSettings(temperature=0),
)


class Reading(NamedTuple):
    """What the file and the model return for the same inputs.

    Attributes:
        inputs: tokens `(batch, steps)` int32, or frames `(batch, steps, ...)` float32.
        outputs: of the file's `decode`, `(batch, steps, ...)` float32.
        expected: of the model, `(batch, steps, ...)` float32.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    expected: np.ndarray


class SignatureComparison(NamedTuple):
    """How the signatures of a file compare with the model.

    Attributes:
        steps_compared: outputs of `decode` that were compared.
        largest_difference: the largest difference of one number of these outputs.
        relative_error: root mean square of the differences, divided by the standard deviation of the expected outputs;
            None for a model of text.
        draws_compared: tokens that `sample` drew; None for a model that is not of text.
        near_ties: those among them for which rounding decides between two tokens; None likewise.
    """

    steps_compared: int
    largest_difference: float
    relative_error: float | None = None
    draws_compared: int | None = None
    near_ties: int | None = None


def read_file_and_model(model: keras.Model, vocabulary: Vocabulary | None, decoder: LiteRTDecoder) -> Reading:
    """Runs the same steps through `decode` of the file and through the model.

    The file samples the tokens that it reads, a text in each row. Frames are random.

    Args:
        model: the model over sequences.
        vocabulary: None for a model that is not of text.
        decoder: the file.
    """
    steps = max(STEPS // decoder.batch, PREFILL_STEPS + 1)
    if vocabulary is None:
        inputs = _random_inputs(model, decoder.batch, steps)
        outputs, _ = _decode(decoder, steps, lambda step, _: inputs[:, step])
    else:
        outputs, inputs = _decode(decoder, steps, _next_tokens(vocabulary, decoder.batch))
    return Reading(inputs, outputs, np.stack(list(reference_outputs(model, list(inputs)))))


def compare_signatures(
    decoder: LiteRTDecoder, reading: Reading, logit_bias: np.ndarray | None, tolerance: float = TOLERANCE
) -> SignatureComparison:
    """Compares `decode` with the model, and `prefill` and `sample` with `decode`.

    Args:
        decoder: the file.
        reading: what the file and the model return.
        logit_bias: added to the logits by the file's `sample`, `(vocabulary,)`; None for a model that is not of text.
        tolerance: largest difference between the outputs of `decode` and those of the model.

    Raises:
        ExportError: a signature returns something else than the model.
    """
    of_text = logit_bias is not None
    # Logits are of the order of one; outputs of other models may have any scale.
    scale = 1.0 if of_text else max(1.0, float(np.abs(reading.expected).max()))
    difference = compare(DECODE, reading.expected, reading.outputs, tolerance * scale)
    _compare_prefill(decoder, reading, scale)
    return SignatureComparison(
        steps_compared=reading.inputs.shape[0] * reading.inputs.shape[1],
        largest_difference=difference,
        relative_error=None if of_text else _relative_error(reading),
        draws_compared=reading.inputs.size if of_text else None,
        near_ties=None if logit_bias is None else _compare_sample(decoder, reading, logit_bias),
    )


def _random_inputs(model: keras.Model, batch: int, steps: int) -> np.ndarray:
    random = np.random.default_rng(0)
    (inputs,) = model.inputs
    if len(inputs.shape) == 2:  # Token ids. Only 0 and 1 are safe: the size of the vocabulary is unknown.
        return random.integers(0, 2, (batch, steps)).astype(np.int32)
    return random.normal(size=(batch, steps, *inputs.shape[2:])).astype(np.float32)


def _next_tokens(vocabulary: Vocabulary, batch: int) -> Callable[[int, np.ndarray | None], np.ndarray]:
    """Returns a function that samples the next token of each row from the logits `(batch, vocabulary)` before it."""
    settings = SamplingSettings(bias={EOS: -np.inf})  # No model has learned what follows <eos>.
    bias = logit_bias(vocabulary, settings)

    def sample(step: int, logits: np.ndarray | None) -> np.ndarray:
        if logits is None:
            return np.full(batch, vocabulary.start_id, np.int32)
        uniforms = [float(uniform(row, step)) for row in range(batch)]
        rows = zip(logits, uniforms, strict=True)
        return np.array([next_token(row, number, settings, bias) for row, number in rows], np.int32)

    return sample


def _decode(
    decoder: LiteRTDecoder, steps: int, next_input: Callable[[int, np.ndarray | None], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the outputs of `decode` and its inputs, each `(batch, steps, ...)`."""
    states, output = decoder.initial_states(), None
    inputs, outputs = [], []
    for step in range(steps):
        inputs.append(next_input(step, output))
        output, states = decoder(inputs[-1], states)
        outputs.append(output)
    return np.stack(outputs, axis=1), np.stack(inputs, axis=1)


def _relative_error(reading: Reading) -> float:
    spread = max(reading.expected.std(), np.finfo(np.float32).tiny)
    return float(np.sqrt(np.square(reading.outputs - reading.expected).mean()) / spread)


def _compare_prefill(decoder: LiteRTDecoder, reading: Reading, scale: float) -> None:
    """Compares `prefill` with `decode`: all steps in several calls, and rows of different lengths in one call."""
    inputs, outputs, _ = reading
    last, _ = decoder.prefill(inputs, decoder.initial_states())
    compare(PREFILL, outputs[:, -1], last, TOLERANCE * scale)
    rows = np.arange(decoder.batch)
    lengths = 1 + (5 + 37 * rows) % PREFILL_STEPS
    name = TOKENS if np.issubdtype(inputs.dtype, np.integer) else FRAMES
    given = {name: np.ascontiguousarray(inputs[:, :PREFILL_STEPS]), LENGTH: lengths.astype(np.int32)}
    answer, states = decoder.run(PREFILL, given, decoder.initial_states())
    (output,) = answer.values()
    compare(f"{PREFILL}, rows of {', '.join(map(str, lengths))}", outputs[rows, lengths - 1], output, TOLERANCE * scale)
    after, _ = decoder(inputs[rows, lengths], states)
    compare(f"{PREFILL}, states", outputs[rows, lengths], after, TOLERANCE * scale)


def _compare_sample(decoder: LiteRTDecoder, reading: Reading, bias: np.ndarray) -> int:
    """Compares the tokens of `sample` with those that the host samples from the logits of `decode`.

    Reading the whole text this way also compares the states that `sample` returns.

    Returns:
        The number of near-ties, for which `sample` may draw either of two tokens.
    """
    tokens, logits, _ = reading
    states, near_ties = decoder.initial_states(), 0
    for step in range(tokens.shape[1]):
        settings = _SETTINGS[step % len(_SETTINGS)]
        uniforms = [float(uniform(decoder.batch + row, step)) for row in range(decoder.batch)]
        inputs = {TOKEN: np.ascontiguousarray(tokens[:, step]), UNIFORM: np.array(uniforms, np.float32)}
        inputs |= {
            name: np.full(decoder.batch, getattr(settings, name), dtype) for name, dtype in SAMPLING_INPUTS.items()
        }
        answer, states = decoder.run(SAMPLE, inputs, states)
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
