"""Comparing a .tflite with its model: every signature of the file, run in LiteRT step by step."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_seq.data.tokens import EOS
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, log_softmax, logit_bias, next_token
from keras_seq.generation.threefry import uniform
from keras_seq.models.difference import scales
from keras_seq.models.probe import random_rows
from keras_seq.models.step_model import stepped
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
    START,
    TOKEN,
    TOKENS,
    UNIFORM,
    state_name,
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

    The file samples the tokens that it reads, a text in each row. Other inputs are random.

    Args:
        model: the model over sequences, as the user gave it.
        vocabulary: None for a model that is not of text.
        decoder: the file.
    """
    steps = max(STEPS // decoder.batch, PREFILL_STEPS + 1)
    if vocabulary is None:
        reads_tokens = stepped(model).reads_tokens
        inputs = random_rows(model, reads_tokens, decoder.batch, steps)
        inputs = inputs if reads_tokens else inputs.astype(np.float32)
        outputs, _ = _decode(decoder, steps, lambda step, _: inputs[:, step])
    else:
        outputs, inputs = _decode(decoder, steps, _next_tokens(vocabulary, decoder.batch))
    return Reading(inputs, outputs, expected_outputs(model, inputs, of_text=vocabulary is not None))


def expected_outputs(model: keras.Model, inputs: np.ndarray, *, of_text: bool) -> np.ndarray:
    """Returns the outputs of a model for tokens or frames `(batch, steps, ...)`; see `Reading`."""
    return np.stack(list(reference_outputs(model, list(inputs), of_text=of_text)))


def compare_signatures(
    decoder: LiteRTDecoder,
    initial: Sequence[np.ndarray],
    reading: Reading,
    logit_bias: np.ndarray | None,
    tolerance: float = TOLERANCE,
) -> SignatureComparison:
    """Compares `start` and `decode` with the model, and `prefill` and `sample` with `decode`.

    Args:
        decoder: the file.
        initial: the value of each state of the model at the start of a text or series, `(units,)` float32.
        reading: what the file and the model return.
        logit_bias: added to the logits by the file's `sample`, `(vocabulary,)`; None for a model that is not of text.
        tolerance: largest difference between the outputs of `decode` and those of the model; without text, relative to
            `scales`.

    Raises:
        ExportError: a signature returns something else than the model.
    """
    _compare_start(decoder, initial)
    of_text = logit_bias is not None
    # Logits are of the order of one; outputs of other models may have any scale.
    scale = np.float32(1) if of_text else scales(reading.expected)
    compare(DECODE, reading.expected / scale, reading.outputs / scale, tolerance)
    difference = float(np.abs(reading.expected - reading.outputs).max())
    _compare_prefill(decoder, reading, scale)
    return SignatureComparison(
        steps_compared=reading.inputs.shape[0] * reading.inputs.shape[1],
        largest_difference=difference,
        relative_error=None if of_text else _relative_error(reading),
        draws_compared=reading.inputs.size if of_text else None,
        near_ties=None if logit_bias is None else _compare_sample(decoder, reading, logit_bias),
    )


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


def _compare_start(decoder: LiteRTDecoder, initial: Sequence[np.ndarray]) -> None:
    """Compares the initial states of the file with the model's. Internal ones show in the outputs of `decode` only."""
    if decoder.bundle.config["state"] == "internal":
        return
    for index, (expected, state) in enumerate(zip(initial, decoder.initial_states(), strict=True)):
        compare(f"{START}, {state_name(index)}", np.tile(expected, (decoder.batch, 1)), state)


def _relative_error(reading: Reading) -> float:
    spread = max(reading.expected.std(), np.finfo(np.float32).tiny)
    return float(np.sqrt(np.square(reading.outputs - reading.expected).mean()) / spread)


def _compare_prefill(decoder: LiteRTDecoder, reading: Reading, scale: np.ndarray | np.float32) -> None:
    """Compares `prefill` with `decode`: all steps in several calls, and rows of different lengths in one call."""
    inputs, outputs, _ = reading
    last, _ = decoder.prefill(inputs, decoder.initial_states())
    compare(PREFILL, outputs[:, -1] / scale, last / scale)
    rows = np.arange(decoder.batch)
    lengths = 1 + (5 + 37 * rows) % PREFILL_STEPS
    name = TOKENS if np.issubdtype(inputs.dtype, np.integer) else FRAMES
    given = {name: np.ascontiguousarray(inputs[:, :PREFILL_STEPS]), LENGTH: lengths.astype(np.int32)}
    answer, states = decoder.run(PREFILL, given, decoder.initial_states())
    (output,) = answer.values()
    name = f"{PREFILL}, rows of {', '.join(map(str, lengths))}"
    compare(name, outputs[rows, lengths - 1] / scale, output / scale)
    after, _ = decoder(inputs[rows, lengths], states)
    compare(f"{PREFILL}, states", outputs[rows, lengths] / scale, after / scale)


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
