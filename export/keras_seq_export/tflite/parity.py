"""Comparing a .tflite with its model: every signature of the file, run in LiteRT step by step."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_seq.data.tokens import EOS
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias, next_token
from keras_seq.generation.threefry import uniform
from keras_seq.models.difference import scales
from keras_seq.models.inputs import ModelInput, is_integer, random_values
from keras_seq.models.probe import most_steps, random_rows, steps_to_compare
from keras_seq.models.sequence_reader import SequenceReader
from keras_seq.models.step_comparison import Expected, as_frames, as_steps, expected_outputs, up_to_length
from keras_seq.models.step_gates import update_gates
from keras_seq.models.step_model import SteppedModel, stepped, stepped_language_model
from keras_seq_export.comparison import TOLERANCE, compare, reference_logits
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GATES,
    PREFILL,
    PREFILL_STEPS,
    START,
    state_name,
    update_gate_name,
)
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.draw_parity import compare_draws
from keras_seq_export.tflite.fixed_point import as_float32

# In a quantized file: the largest difference of a state that `encode` gives, relative to the largest state, and the root
# mean square of the differences of a gate.
_LARGEST_QUANTIZED = 0.1
STEPS = 256  # compared over all rows together; each row has more than one call of `prefill` can read


class Reading(NamedTuple):
    """What the file and the model return for the same inputs.

    Attributes:
        values: for each input of a step, tokens `(batch, steps)` int32 or frames `(batch, steps, ...)`.
        outputs: for each output of the file's `decode`, `(batch, steps, ...)` float32.
        expected: for each output, what the model gives after some of the steps, or all.
        at_once: for each input that is given at once, a value `(batch, ...)`.
    """

    values: list[np.ndarray]
    outputs: list[np.ndarray]
    expected: list[Expected]
    at_once: list[np.ndarray]

    def of_file(self) -> list[np.ndarray]:
        """Returns the outputs of the file after the steps that are expected."""
        return [output[:, one.steps] for output, one in zip(self.outputs, self.expected, strict=True)]


class SignatureComparison(NamedTuple):
    """How the signatures of a file compare with the model.

    Attributes:
        steps_compared: outputs of `decode` that were compared.
        largest_difference: the largest difference of one number of these outputs.
        relative_error: root mean square of the differences, divided by the standard deviation of the expected outputs;
            None for a model of text.
        draws_compared: tokens that `sample` drew; None for a file without `sample`.
        near_ties: those among them for which rounding decides between two tokens; None likewise.
        largest_gate_difference: the largest difference of an update gate; None for a file without `gates`.
        largest_learning_difference: see `keras_seq_export.tflite.learning.proof.prove_learning`; None for a file without
            `learn`.
    """

    steps_compared: int
    largest_difference: float
    relative_error: float | None = None
    draws_compared: int | None = None
    near_ties: int | None = None
    largest_gate_difference: float | None = None
    largest_learning_difference: float | None = None


def read_file_and_model(
    model: keras.Model, vocabulary: Vocabulary | None, decoder: LiteRTDecoder, frame_range: float | None = None
) -> Reading:
    """Runs the same steps through `decode` of the file and through the model.

    The file samples the tokens that it reads, a text in each row. Other inputs are random.

    Args:
        model: the model over sequences, as the user gave it.
        vocabulary: None for a model that is not of text.
        decoder: the file.
        frame_range: the largest number that a frame can have; None for any.
    """
    known = stepped(model) if vocabulary is None else stepped_language_model(model)
    graph = known.graph
    steps = steps_to_compare(max(STEPS // decoder.batch, PREFILL_STEPS + 1), graph.look_back)
    length = next(given.tensor.shape[1] for given in known.step_inputs)
    if length is not None and known.has_values_so_far:
        steps = length // graph.frames  # The model gives its answer after these.
    every = random_rows(model, graph.inputs, decoder.batch, steps * graph.frames)
    if frame_range is not None:
        every = [_in_range(one, frame_range) for one in every]
    at_once = _sources(known, every, decoder.source_steps)
    states = decoder.initial_states() if not known.has_encoder else decoder.encode(*at_once)
    if vocabulary is None:
        values = [as_steps(graph, one, steps) for one in graph.stepwise(every)]
        outputs, _ = _decode(decoder, states, steps, lambda step, _: [one[:, step] for one in values])
    else:
        outputs, values = _decode(decoder, states, steps, _next_tokens(vocabulary, decoder.batch))
    expected = expected_of_file(model, vocabulary, values, at_once)
    return Reading(values, outputs, expected, at_once)


def _in_range(values: np.ndarray, largest: float) -> np.ndarray:
    """Returns random real numbers that fill a range; integers as they are."""
    if values.dtype.kind != "f":
        return values
    return np.clip(values * np.float32(largest / 3), -largest, largest).astype(values.dtype)


def _sources(known: SteppedModel, values: list[np.ndarray], length: int | None) -> list[np.ndarray]:
    """Returns what is given at once, with sources of any length cut to `length` frames."""
    pairs = zip(known.inputs_at_once, known.graph.at_once(values), strict=True)
    return [one[:, :length] if given.has_length else one for given, one in pairs]


def expected_of_file(
    model: keras.Model, vocabulary: Vocabulary | None, values: list[np.ndarray], at_once: list[np.ndarray]
) -> list[Expected]:
    """Returns what the outputs of a file must be; see `Reading`."""
    if vocabulary is not None:
        (tokens,) = values
        logits = np.stack(list(reference_logits(model, list(tokens), at_once)))
        return [Expected(np.arange(tokens.shape[1]), logits)]
    known = stepped(model)
    # The exported file runs on the CPU; an accelerator may compute in lower precision.
    with tf.device("/CPU:0"):
        if known.graph.is_recurrent and len(known.graph.outputs) == 1 and values[0].shape[1] <= most_steps(model):
            whole = SequenceReader(model, known).whole(values[0])
            return [Expected(np.arange(whole.shape[1]), whole)]
        stepwise = [as_frames(known.graph, one[:, : most_steps(model)]) for one in values]
        every = known.graph.merged(stepwise, at_once)
        return expected_outputs(model, known.graph, up_to_length(known.graph, every))


def compare_signatures(
    model: keras.Model,
    decoder: LiteRTDecoder,
    initial: Sequence[np.ndarray] | None,
    reading: Reading,
    logit_bias: np.ndarray | None,
    tolerance: float = TOLERANCE,
) -> SignatureComparison:
    """Compares `start` and `decode` with the model, `prefill` and `sample` with `decode`, `write` with `sample`, and `gates`.

    Args:
        model: the model from which the file was made.
        decoder: the file.
        initial: the value of each state of the model at the start of a text or series, `(units,)` float32; None if the
            encoder gives them.
        reading: what the file and the model return.
        logit_bias: added to the logits by the file's `sample`, `(vocabulary,)`; None for a model that is not of text.
        tolerance: largest difference between the outputs of `decode` and those of the model; without text, relative to
            `scales`.

    Raises:
        ExportError: a signature returns something else than the model.
    """
    if initial is None:
        _compare_encoder(model, logit_bias is not None, decoder, tolerance)
        states = decoder.encode(*reading.at_once)
    else:
        states = _compare_start(decoder, initial)
    of_text = logit_bias is not None  # Logits are of the order of one; outputs of other models may have any scale.
    scale = [np.float32(1) if of_text else scales(one.values) for one in reading.expected]
    difference = 0.0
    for one, output, size in zip(reading.expected, reading.of_file(), scale, strict=True):
        compare(DECODE, one.values / size, output / size, tolerance)
        difference = max(difference, float(np.abs(one.values - output).max()))
    if not decoder.is_integer:  # Such a file has `decode` only; its text is drawn on the host.
        compare_prefill(decoder, reading, states, scale)
    bias = None if decoder.is_integer else logit_bias
    return SignatureComparison(
        steps_compared=max(len(reading.values[0]) * len(one.steps) for one in reading.expected),
        largest_difference=difference,
        relative_error=None if of_text else _relative_error(reading),
        draws_compared=None if bias is None else reading.values[0].size,
        near_ties=None if bias is None else compare_draws(decoder, reading.values[0], reading.outputs[0], states, bias),
        largest_gate_difference=_compare_gates(model, decoder, reading, states, tolerance)
        if decoder.has_gates
        else None,
    )


def _compare_gates(
    model: keras.Model, decoder: LiteRTDecoder, reading: Reading, states: Any, tolerance: float
) -> float:
    """Compares `gates` with the gates of the model, both from the states of the file; returns the largest difference."""
    (tokens,) = reading.values
    found, before = list[list[np.ndarray]](), list[list[np.ndarray]]()
    for token in tokens.T:
        before.append(states)
        found.append(decoder.update_gates(token, states))
        _, states = decoder.step([np.ascontiguousarray(token)], states)
    step = stepped_language_model(model).decoder
    given = [tokens.T.reshape(-1), *(np.concatenate(every) for every in zip(*before, strict=True))]
    values = [tf.cast(value, tensor.dtype) for value, tensor in zip(given, step.inputs, strict=True)]
    with tf.device("/CPU:0"):
        expected = tree.flatten(update_gates(step)(values, training=False))
    largest = 0.0
    for index, (one, every) in enumerate(zip(expected, zip(*found, strict=True), strict=True)):
        name, actual = f"{GATES}, {update_gate_name(index)}", np.concatenate(every)
        largest = max(largest, compare(name, np.asarray(one, np.float32), actual, tolerance))
        error = float(np.sqrt(np.square(one - actual).mean()))
        if error > _LARGEST_QUANTIZED:
            raise ExportError(f"{name}: the gates of the file differ from the model's by {error:.2g} on average")
    return largest


def _next_tokens(vocabulary: Vocabulary, batch: int) -> Callable[[int, list[np.ndarray] | None], list[np.ndarray]]:
    """Returns a function that samples the next token of each row from the logits `(batch, vocabulary)` before it."""
    settings = SamplingSettings(bias={EOS: -np.inf})  # No model has learned what follows <eos>.
    bias = logit_bias(vocabulary, settings)

    def sample(step: int, logits: list[np.ndarray] | None) -> list[np.ndarray]:
        if logits is None:
            return [np.full(batch, vocabulary.start_id, np.int32)]
        uniforms = [float(uniform(row, step)) for row in range(batch)]
        rows = zip(logits[0], uniforms, strict=True)
        return [np.array([next_token(row, number, settings, bias) for row, number in rows], np.int32)]

    return sample


def _decode(
    decoder: LiteRTDecoder,
    states: Any,
    steps: int,
    next_values: Callable[[int, list[np.ndarray] | None], list[np.ndarray]],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the outputs of `decode` and its inputs, each `(batch, steps, ...)`."""
    outputs, answer = list[list[np.ndarray]](), None
    inputs = list[list[np.ndarray]]()
    for step in range(steps):
        inputs.append(next_values(step, answer))
        answer, states = decoder.step(inputs[-1], states)
        outputs.append(answer)
    stacked = ([np.stack(of_one, axis=1) for of_one in zip(*steps, strict=True)] for steps in (outputs, inputs))
    of_outputs, of_inputs = stacked
    return of_outputs, of_inputs


def _compare_start(decoder: LiteRTDecoder, initial: Sequence[np.ndarray]) -> Any:
    """Compares the initial states of the file with the model's. Internal ones show in the outputs of `decode` only."""
    states = decoder.initial_states()
    if decoder.bundle.config["state"] != "internal":
        for (name, tensor), expected, state in zip(decoder.states.items(), initial, states, strict=True):
            repeated, rounding = np.tile(expected, (decoder.batch, 1)), (tensor.scale or 0) / 2
            compare(f"{START}, {name}", repeated, as_float32(state, tensor), TOLERANCE + rounding)
    return states


def _compare_encoder(model: keras.Model, vocabulary: bool, decoder: LiteRTDecoder, tolerance: float) -> None:
    """Compares the states that `encode` gives for sources of several lengths with those of the model."""
    known = stepped_language_model(model) if vocabulary else stepped(model)
    longest = decoder.source_steps or 1
    # Shifted values too: padding of zeros would not show where all numbers are above or below it.
    for length, shift in itertools.product(sorted({1, 2, -(-longest // 3), longest}), (0, 3, -3)):
        values = [
            _source(given, decoder.batch, length - index, shift) for index, given in enumerate(known.inputs_at_once)
        ]
        expected = known.states_before(values, decoder.batch)
        for index, (one, state) in enumerate(zip(expected, decoder.encode(*values), strict=True)):
            one = one.astype(np.float32)
            size = max(1.0, float(np.abs(one).max()))
            name = f"{ENCODE} of {length} frames, padded to {longest}, {state_name(index)}"
            compare(name, one / size, state / size, min(tolerance, _LARGEST_QUANTIZED))


def _source(given: ModelInput, rows: int, length: int, shift: int) -> np.ndarray:
    """Returns random values for an input that is given at once, without token 0, which a mask may skip."""
    values = random_values(given, rows, max(1, length), masked=())
    if given.is_token:
        return np.maximum(values, 1) if given.has_length else values
    return values if is_integer(given.tensor) else values + np.float32(shift)


def _relative_error(reading: Reading) -> float:
    """Returns the largest root mean square of the differences of an output, divided by its standard deviation."""
    errors = []
    for one, output, all_steps in zip(reading.expected, reading.of_file(), reading.outputs, strict=True):
        # One answer has no spread, but the answers so far have one.
        spread = max((one.values if len(one.steps) > 1 else all_steps).std(), np.finfo(np.float32).tiny)
        errors.append(float(np.sqrt(np.square(output - one.values).mean()) / spread))
    return max(errors)


def compare_prefill(decoder: LiteRTDecoder, reading: Reading, states: Any, scale: list[Any]) -> None:
    """Compares `prefill` with `decode`: all steps in several calls, and rows of different lengths in one call."""
    values, outputs = reading.values, [output / size for output, size in zip(reading.outputs, scale, strict=True)]

    def compare_all(name: str, expected: list[np.ndarray], actual: list[np.ndarray]) -> None:
        for one, other, size in zip(expected, actual, scale, strict=True):
            compare(name, one, other / size)

    last, _ = decoder.prefill_steps(values, states)
    compare_all(PREFILL, [output[:, -1] for output in outputs], last)
    rows, steps = np.arange(decoder.batch), outputs[0].shape[1]
    if steps == 1:
        return
    lengths = 1 + (5 + 37 * rows) % min(PREFILL_STEPS, steps - 1)
    first = [one[:, :PREFILL_STEPS] for one in values]
    answer, states = decoder.read(first, lengths, states)
    name = f"{PREFILL}, rows of {', '.join(map(str, lengths))}"
    compare_all(name, [output[rows, lengths - 1] for output in outputs], answer)
    after, _ = decoder.step([one[rows, lengths] for one in values], states)
    compare_all(f"{PREFILL}, states", [output[rows, lengths] for output in outputs], after)
