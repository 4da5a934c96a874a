"""Exporting one step of a model as a .tflite for LiteRT: vocabulary inside, verified before it is published."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ConfigError
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.models.inputs import ModelInput, is_integer
from keras_seq_export.comparison import TOLERANCE, require_equal_but_for_rounding
from keras_seq_export.errors import BundleError, ExportError
from keras_seq_export.graph.encoder import SOURCE_STEPS, length_name
from keras_seq_export.graph.learning import LearningStep
from keras_seq_export.graph.step import GraphStep, float32_step
from keras_seq_export.learning_rule import RATE
from keras_seq_export.publishing import publishing_export
from keras_seq_export.signatures import DECODE, INTEGER, QUANTIZATIONS, STATES, is_quantized
from keras_seq_export.tflite.bundle import add_card, read_bundle, to_json, write_bundle
from keras_seq_export.tflite.card import model_card, require_card
from keras_seq_export.tflite.conversion import checked_contents, convert, signature_endpoints
from keras_seq_export.tflite.decoder import LiteRTDecoder
from keras_seq_export.tflite.integer.proof import prove
from keras_seq_export.tflite.integer.settings import require_integer_settings, require_integer_step
from keras_seq_export.tflite.learning.projection import learning_step
from keras_seq_export.tflite.learning.proof import prove_learning
from keras_seq_export.tflite.learning.settings import require_learning_settings
from keras_seq_export.tflite.parity import (
    Reading,
    SignatureComparison,
    compare_signatures,
    expected_of_file,
    read_file_and_model,
)
from keras_seq_export.tflite.quality import Quality, excerpts, quality_on_held_out, quality_on_own_text
from keras_seq_export.tflite.report import ExportSettings, TFLiteReport
from keras_seq_export.tflite.runtime import LiteRTSampler
from keras_seq_export.vocabulary_limits import require_exportable

MAX_LOSS = 0.01  # nats per token
LARGEST_BATCH = 1024
_MOST_SOURCE_STEPS = 4096
_LARGEST_RELATIVE_ERROR = 0.1  # of a quantized model that is not of text


def export_tflite(
    model: keras.Model,
    vocabulary: Vocabulary | None,
    path: str | os.PathLike[str],
    quantization: str = "none",
    sampling: Mapping[str, Any] | None = None,
    by_line: bool = False,
    *,
    state: str = "explicit",
    batch: int = 1,
    held_out: str | None = None,
    max_loss: float = MAX_LOSS,
    card: Mapping[str, Any] | None = None,
    source_steps: int = SOURCE_STEPS,
    gates: bool = False,
    frame_range: float | None = None,
    learn: bool = False,
) -> dict[str, Any]:
    """Writes a .tflite with the signatures `decode`, `prefill`, `sample` and `write`, with builtin operators only.

    A model whose states do not begin at zero also has the signature `start`, and one with an encoder `encode` instead. With
    `gates=True` the file also has the signature `gates`.

    =========  ==================================================  =================================================
    signature  inputs                                              outputs
    =========  ==================================================  =================================================
    decode     token int32 [B], state_0.. float32 [B, units]       logits float32 [B, V], state_0..
    prefill    tokens int32 [B, 64], length int32 [B], state_0..   logits after the row's last token, state_0..
    sample     token, uniform float32 [B], temperature [B], top_k  next_token int32 [B], log_probability [B], state_0..
               int32 [B], top_p [B], min_p [B], state_0..
    write      token int32 [B], uniforms float32 [B, 32], length   tokens int32 [B, 32], log_probabilities [B, 32],
               int32 [B], the settings of sample, state_0..        count int32 [B], state_0..
    gates      token int32 [B], state_0..                          update_gate_0.. float32 [B, units]
    start      none                                                state_0.. at the start of a text
    learn      tokens, next_tokens int32 [1, 64], length int32     log_probabilities, model_log_probabilities
               [1], rate float32 [1], state_0..                    [1, 64], state_0..
    encode     source [B, N, ...], length int32 [B], or context    state_0.. at the start of a text
               [B, ...]
    =========  ==================================================  =================================================

    A text starts with the token `<s>` and the states that `start` returns, or zero states in a file without `start`.
    The id of a token is its line in `vocab.txt`, counted from 0.
    `prefill` reads the first `length` tokens of each row, 1 to 64, and ignores the others. `sample` takes a uniform
    number in [0, 1); for the i-th token of a text this is `keras_seq.generation.threefry.uniform(seed, i)`. Temperature
    0 takes the most likely token; top_k 0, top_p 1 and min_p 0 turn a filter off. The signatures do not check their
    inputs: the runtime rejects a token or setting out of range, or the results are undefined.

    `write` runs `sample` up to `length` times in one call, 1 to 32, token i with uniform number i, and ends at `<eos>`,
    the last of the `count` tokens. It returns the states that the last `sample` returns; the last token is the next
    input. What follows the last token is 0. It is in files with at most 256 tokens whose states are explicit.

    `gates` returns the update gate Γu of each GRU layer in the step that reads the token: 0 keeps the memory of a unit, 1
    replaces it. The number of a gate is that of the GRU layer, counted from 0 in the order of the calls, and not that of a
    state. `decode` returns the states after the same step.

    `learn` reads the first `length` tokens, 1 to 64, and learns to predict the token that follows each, as
    `keras_seq_export.learning_rule` describes. It returns the log-probabilities of these with what was learned before,
    and those of the model alone. `decode`, `prefill`, `sample` and `write` use what was learned. Variables of the file hold it:
    `get_weights` returns `weights` float32 [V, features] and `log_shares` [3], `set_weights` takes them, and `reset_weights`
    forgets. A file that has learned nothing gives the same logits as one without `learn`, bit for bit.

    A model that is not of text (`vocabulary=None`) has no `sample`. Its output is called `output`, and if it reads
    real-valued frames, its inputs are `frame` [B, ...] and `frames` [B, 64, ...]. Several inputs of one kind, and several
    outputs, have the names that they have in the model. A model with strides takes as many frames in a step as the product
    of its strides: `frame` [B, frames, ...]. A convolution with padding="valid" gives its first output after some steps,
    the `delays` of `LiteRTDecoder`. A model that gives its answer after the last step gives the answer so far after each.

    `encode` takes what the model takes at once: the source of a translation, padded to N = `source_steps` frames, of which
    it reads the first `length`; or a context, a vector that holds for the whole sequence. The states carry it from step to
    step.

    With `state="internal"` the states
    are variables of the model instead of inputs and outputs. They begin as the initial states. The signature `reset`,
    without inputs, sets those of all rows to the initial states again, in place of `start`; it returns their number.

    With `quantization="integer"` the file has no floating-point number. It is for TensorFlow Lite for Microcontrollers, for
    processors without floating point and for texts that must be equal bit for bit on every machine. It has one row and the
    signature `decode`, and `start` if the states do not begin at zero. Its logits, states, frames and outputs are int16, each
    tensor with one scale: a number is the integer times the scale. The token is drawn from the integers
    (`keras_seq.generation.integer_sampling`). The memory of an LSTM is cut off to 32: a model that counts further loses count.
    Before the file is published, it is run in LiteRT with XNNPACK, without it and with the reference kernels, and in TensorFlow
    Lite for Microcontrollers if `tflite_micro` is installed: all integers must be equal. On a processor with floating point,
    int8 is faster.

    Before the file is published, it is loaded in LiteRT and compared with the model. `<name>.report.json` beside it
    holds the report.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`; without a
            vocabulary, token ids or frames `(batch, time, ...)` -> outputs `(batch, time, ...)`. A model in half or
            mixed precision is copied into float32 first, because TFLite's operators compute in float32.
        vocabulary: the vocabulary of the model, stored in the file; None for a model that is not of text.
        path: the file to write; it must not exist.
        quantization: dtype of the weights. `"none"` is float32. `"float16"` halves the size. `"int8"` is a quarter of
            the size; each tensor has one scale, so that runtimes from tflite-runtime 2.14 on load the file. `"int4"` is
            a sixth of the size; dense layers have 4 bits, which needs LiteRT 2, embeddings and n-grams 8. `"integer"` is a
            quarter of the size, with 16-bit numbers in place of float32 ones.
        sampling: default settings of `LiteRTSampler`, stored in the file. `bias` and `allow_unk` are also built into
            `sample`. `sample` takes the others as inputs, except `repetition_penalty`, which only Python applies; the kits
            in other languages refuse a file that stores one.
        by_line: whether the model was trained line by line.
        state: `"explicit"` makes the states inputs and outputs, `"internal"` variables of the model.
        batch: rows B of each signature, 1 to 1,024.
        held_out: text that the model was not trained on, to measure the file with; None measures it on a text that it
            writes itself.
        max_loss: nats per token that quantization may cost on that text. The outputs of a model that is not of text may
            change by 10 % of their standard deviation instead.
        source_steps: frames of a source that one call of `encode` takes, 1 to 4,096; for an encoder of sources of any
            length.
        gates: whether to add the signature `gates`; for a model of text with explicit states, in which each GRU is a
            `keras_seq.GRU`.
        learn: whether to add the signatures with which the model learns on the device from the texts of its user
            (`LiteRTSampler.learn`); for a model of text with explicit states, one row and no encoder.
        frame_range: largest absolute value of a number of a frame, such as 4 for normalized ones; larger numbers are cut
            off. Numbers are rounded to about a 4,000th of it, so all features should be of one size: normalize them. For
            `quantization="integer"` and a model that reads frames.
        card: entries of the model card, such as `{"corpus": "Shakespeare", "license": "CC0-1.0"}`.

    Returns:
        The report: settings, operators, sizes in bytes, the comparison with the model, and the quality.

    Raises:
        ExportError: `path` exists, the file does not return what the model does, or quantization costs too much. No
            file is left behind.
        ValueError: `model` cannot be run step by step, `vocabulary` does not fit it or has more than 524,288 tokens or
            16 MiB, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_tflite(model, vocabulary, tempfile.mkdtemp() + "/to_be.tflite")
        >>> report["largest_difference"] < 1e-4
        True
    """
    _require_settings(quantization, state, batch, max_loss)
    require.integer("source_steps", source_steps, at_least=1, at_most=_MOST_SOURCE_STEPS)
    for name, value in (("gates", gates), ("learn", learn)):
        require.boolean(name, value)
    if vocabulary is None and (held_out is not None or sampling or by_line or gates):
        raise ValueError(
            "`held_out`, `sampling`, `by_line` and `gates` are for models of text: give the vocabulary too"
        )
    require_card(card or {})
    require_exportable(vocabulary)
    if gates:
        _require_gates_settings(state)
    if learn:
        require_learning_settings(vocabulary, quantization, state, batch)
    if quantization == INTEGER:
        require_integer_settings(state, batch, gates, _sampling_settings(sampling))
    exported, step, trained_in = float32_step(model, vocabulary)
    require_integer_step(step, quantization, frame_range)
    if step.has_encoder:
        _require_encoder_settings(state, held_out)
    if learn and vocabulary is not None:
        step = learning_step(exported, vocabulary, step)
    bias = None if vocabulary is None else logit_bias(vocabulary, _sampling_settings(sampling))
    rows = None if vocabulary is None or held_out is None else excerpts(held_out, vocabulary, by_line)
    settings = ExportSettings(by_line, quantization, state, batch)
    path = Path(path)
    with publishing_export(path, path.with_name(f"{path.name}.report.json")) as (partial, partial_report):
        integer = quantization == INTEGER
        endpoints = signature_endpoints(step, vocabulary, bias, state, batch, source_steps, gates, integer)
        content = convert(endpoints, quantization, frame_range)
        contents = checked_contents(content, quantization)
        partial.write_bytes(content)
        write_bundle(partial, vocabulary, _bundle_config(settings, sampling, step))
        sampler = None if vocabulary is None else LiteRTSampler(partial)
        decoder = LiteRTDecoder(partial) if sampler is None else sampler.decoder
        initial = None if step.has_encoder else step.initial
        reading, comparison = _compare(model, exported, vocabulary, decoder, initial, bias, quantization, frame_range)
        proof = prove(decoder, reading.values) if integer else None
        if isinstance(step, LearningStep) and bias is not None:
            learning = prove_learning(decoder, reading, step.projection, bias, is_quantized(quantization))
            comparison = comparison._replace(largest_learning_difference=learning)
        quality = None if sampler is None else _measure(model, sampler, reading, rows)
        _require_small_loss(quantization, comparison, quality, max_loss)
        decode = contents.signatures[DECODE] if integer or vocabulary is None else None
        add_card(partial, model_card(model, settings, decode, proof, quality, card or {}))
        read_bundle(partial)
        report = TFLiteReport(
            settings=settings,
            operators={name: signature.operators for name, signature in contents.signatures.items()},
            stored_bytes=contents.stored_bytes,
            trained_in=trained_in,
            comparison=comparison,
            quality=quality,
            proof=proof,
            vocabulary_sha256=None if vocabulary is None else vocabulary.sha256,
            bytes=partial.stat().st_size,
        ).to_dict()
        partial_report.write_bytes(to_json(report))
    return report


def _require_settings(quantization: str, state: str, batch: int, max_loss: float) -> None:
    require.one_of("quantization", quantization, QUANTIZATIONS)
    require.one_of("state", state, STATES)
    require.integer("batch", batch, at_least=1, at_most=LARGEST_BATCH)
    in_range = require.is_number(max_loss) and max_loss >= 0
    require.that(in_range, "max_loss", "a number of nats per token, at least 0", max_loss)


def _require_gates_settings(state: str) -> None:
    if state == "internal":
        raise ConfigError(
            '{} must be "explicit" with {}, which reads the states without changing them', "state", "gates"
        )


def _require_encoder_settings(state: str, held_out: str | None) -> None:
    if state == "internal":
        raise ConfigError(
            '{} must be "explicit" for a model with an encoder, so that `encode` can return the states', "state"
        )
    if held_out is not None:
        raise ConfigError("{} must be None for a model with an encoder: a text alone has no source", "held_out")


def _sampling_settings(sampling: Mapping[str, Any] | None) -> SamplingSettings:
    try:
        return SamplingSettings(**(sampling or {}))
    except TypeError as error:
        names = ", ".join(field.name for field in dataclasses.fields(SamplingSettings))
        raise ValueError(f"`sampling` must be settings among {names}. Received: sampling={sampling!r}") from error


def _bundle_config(settings: ExportSettings, sampling: Mapping[str, Any] | None, step: GraphStep) -> dict[str, Any]:
    """Returns what `config.json` in the file says about its use."""
    config = {**dataclasses.asdict(settings), "sampling": dict(sampling or {})}
    if isinstance(step, LearningStep):
        config["learning"] = {"rate": RATE}
    at_once = step.stepped.inputs_at_once
    if at_once:  # the inputs of `encode`, each with the name of its length, or null
        config["at_once"] = {given.name: length_name(given, at_once) for given in at_once}
    if not step.of_text:
        delays = [output.delay for output in step.stepped.graph.outputs]
        config |= {"inputs": [given.name for given in step.inputs], "outputs": step.outputs, "delays": delays}
    # LiteRT itself refuses the tokens of a text that have no embedding.
    checked = at_once if step.of_text else step.stepped.graph.inputs
    if ranges := {given.name: _range_of(given) for given in checked if given.is_token or is_integer(given.tensor)}:
        config["ranges"] = ranges
    return config


def _range_of(given: ModelInput) -> tuple[int, int]:
    """Returns the smallest and the largest number that an input of integers or truth values takes, as far as int32."""
    dtype = given.tensor.dtype
    if given.token_count is not None:
        return 0, given.token_count - 1
    if dtype == "bool":
        return 0, 1
    limits = np.iinfo(dtype)
    return max(int(limits.min), -(2**31)), min(int(limits.max), 2**31 - 1)


def _compare(
    model: keras.Model,
    exported: keras.Model,
    vocabulary: Vocabulary | None,
    decoder: LiteRTDecoder,
    initial: list[np.ndarray] | None,
    bias: np.ndarray | None,
    quantization: str,
    frame_range: float | None,
) -> tuple[Reading, SignatureComparison]:
    """Compares the file with the model of the user; in half precision, also with its copy in float32, more exactly."""
    rounds = exported is not model or is_quantized(quantization)
    try:
        reading = read_file_and_model(model, vocabulary, decoder, frame_range)
        comparison = compare_signatures(exported, decoder, initial, reading, bias, np.inf if rounds else TOLERANCE)
        if exported is not model and not is_quantized(quantization):
            for one, output in zip(reading.expected, reading.of_file(), strict=True):
                require_equal_but_for_rounding(DECODE, model, one.values, output)
            expected = expected_of_file(exported, vocabulary, reading.values, reading.at_once)
            compare_signatures(exported, decoder, initial, reading._replace(expected=expected), bias)
        return reading, comparison
    except BundleError as error:
        raise ExportError(f"LiteRT cannot run the file: {str(error).splitlines()[0]}") from error


def _measure(model: keras.Model, sampler: LiteRTSampler, reading: Reading, rows: list[np.ndarray] | None) -> Quality:
    if rows is None:
        return quality_on_own_text(reading.expected[0].values, reading.outputs[0])
    return quality_on_held_out(model, sampler, rows)


def _require_small_loss(
    quantization: str, comparison: SignatureComparison, quality: Quality | None, max_loss: float
) -> None:
    """Refuses a quantized file whose predictions are too far from the model's."""
    if not is_quantized(quantization):
        return
    error = comparison.relative_error
    if error is not None and error > _LARGEST_RELATIVE_ERROR:
        raise ExportError(
            f"{quantization} changes the outputs by {error:.1%} of their standard deviation, more than "
            f"{_LARGEST_RELATIVE_ERROR:.0%}; export a .tflite with another {{}}, or none",
            "quantization",
        )
    if quality is not None and not quality.nats_lost <= max_loss:
        raise ExportError(
            f"{quantization} costs {quality.nats_lost:.4f} nats per token, more than the {max_loss:g} that {{}} allows; "
            "allow more, or export a .tflite with another {}, or none",
            "max_loss",
            "quantization",
        )
