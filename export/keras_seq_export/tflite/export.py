"""A .tflite for LiteRT: one step of a model, its vocabulary inside, proved before it is published."""

import dataclasses
import datetime
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.models.clone import float32_copy, other_floats
from keras_seq.version import __version__
from keras_seq_export.comparison import TOLERANCE
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.step import (
    Endpoint,
    GraphStep,
    StatesInside,
    decode_endpoint,
    prefill_endpoint,
    sample_endpoint,
)
from keras_seq_export.publishing import publishing
from keras_seq_export.signatures import (
    DECODE,
    PREFILL,
    QUANTIZATIONS,
    RESET,
    SAMPLE,
    STATES,
)
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import add_card, read_bundle, to_json, write_bundle
from keras_seq_export.tflite.embedding_folding import fold_embeddings, read_tokens_as_they_are
from keras_seq_export.tflite.parity import compare_file
from keras_seq_export.tflite.quality import WINDOW, excerpts, measure_quality
from keras_seq_export.tflite.quantization import SMALLEST, quantize_weights
from keras_seq_export.tflite.runtime import LiteRTDecoder, LiteRTSampler

MAX_LOSS = 0.01  # nats a token
LARGEST_BATCH = 1024
_BITS = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}
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
) -> dict[str, Any]:
    """Writes a .tflite with the signatures `decode`, `prefill` and `sample`, builtin operators only.

    =========  ==================================================  =================================================
    signature  inputs                                              outputs
    =========  ==================================================  =================================================
    decode     token int32 [B], state_0.. float32 [B, units]       logits float32 [B, V], state_0..
    prefill    tokens int32 [B, 64], length int32 [B], state_0..   logits after the row's last token, state_0..
    sample     token, uniform float32 [B], temperature [B], top_k  next_token int32 [B], log_probability [B], state_0..
               int32 [B], top_p [B], min_p [B], state_0..
    =========  ==================================================  =================================================

    States are zeros at the start of a text, whose first token is `<s>` (its line in `vocab.txt`, from 0). `prefill` reads the first
    `length` tokens of each row, 1 to 64, whatever comes after them. `sample` wants a uniform number in [0, 1), for the i-th token
    written `keras_seq.generation.threefry.uniform(seed, i)`; temperature 0 is greedy, top_k 0, top_p 1 and min_p 0 are off. What lies outside
    these ranges, or is no token, is an error of the runtime or draws what is never drawn.

    A model that is not of text (`vocabulary=None`) has no `sample`; its output is `output`, and over real-valued frames its
    inputs are `frame` [B, ...] and `frames` [B, 64, ...]. With `state="internal"` the signatures have no states: the model
    keeps them to itself, and `reset`, which takes nothing, sets those of all rows to zero (its output is their number).

    The file is loaded again in LiteRT and compared with the model before it gets its name; a report goes beside it as
    `<name>.report.json`.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`; without a vocabulary,
            token ids or frames `(batch, time, ...)` -> outputs `(batch, time, ...)`. One in half or mixed precision is
            copied into float32 first, as TFLite's operators compute.
        vocabulary: its vocabulary, which travels inside the file; None for a model that is not of text.
        path: the file to write; it must not exist.
        quantization: `"none"` (float32); `"float16"`, half the size; `"int8"`, a quarter, one scale a tensor, so that
            runtimes from tflite-runtime 2.14 on load it; `"int4"`, a sixth, dense layers in 4 bits, for LiteRT 2.
        sampling: default settings of the draw, stored in the file for `LiteRTSampler`. Its `bias` and `allow_unk` are
            built into `sample` too; what else it sets, `sample` takes as inputs, or (`repetition_penalty`) not at all.
        by_line: whether the model was trained line by line.
        state: `"explicit"`, inputs and outputs; `"internal"`, variables of the model.
        batch: rows B that each signature takes, up to 1,024.
        held_out: a text that the model has not learned from, on which the file is measured; None, what the model writes.
        max_loss: nats a token that quantization may cost there. Of a model that is not of text, outputs may change by 10 % of
            their spread instead.
        card: what to say of the model in its card, such as `{"corpus": "Shakespeare", "license": "CC0-1.0"}`.

    Returns:
        The report: operators, bytes, what was compared with which result, the quality.

    Raises:
        ExportError: `path` exists, or the file does not answer as the model does, or loses too much; nothing is left behind.
        ValueError: `model` cannot be stepped, `model` and `vocabulary` do not belong together, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_tflite(model, vocabulary, tempfile.mkdtemp() + "/to_be.tflite")
        >>> report["largest_difference"] < 1e-4
        True
    """
    _require_one_of("quantization", quantization, QUANTIZATIONS)
    _require_one_of("state", state, STATES)
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= LARGEST_BATCH:
        raise ValueError(f"`batch` must be an integer from 1 to {LARGEST_BATCH}. Received: batch={batch!r}")
    if not require.is_number(max_loss) or not max_loss >= 0:
        raise ValueError(f"`max_loss` must be a number of nats, 0 or more. Received: max_loss={max_loss!r}")
    if vocabulary is None and (held_out is not None or sampling or by_line):
        raise ValueError("`held_out`, `sampling` and `by_line` are for models of text: give the vocabulary too")
    _require_card(card)
    step = GraphStep(model, vocabulary)
    trained_in = other_floats(model)
    if trained_in:
        model = _in_float32(model, trained_in)
        step = GraphStep(model, vocabulary)
    added = None if vocabulary is None else logit_bias(vocabulary, _settings(sampling))
    rows = None if vocabulary is None or held_out is None else excerpts(held_out, vocabulary, by_line)
    path = Path(path)
    config = {
        "keras_seq": __version__,
        "by_line": by_line,
        "quantization": quantization,
        "state": state,
        "batch": batch,
    }
    with publishing(path, path.with_name(f"{path.name}.report.json")) as (partial, partial_report):
        partial.write_bytes(_convert(_endpoints(step, added, state, batch), quantization))
        contents = _checked_contents(partial, quantization)
        write_bundle(partial, vocabulary, {**config, "sampling": dict(sampling or {})})
        report = {"format": "tflite", **config, **contents, "trained_in": trained_in or ["float32"]}
        tolerance = TOLERANCE if quantization == "none" else np.inf
        report |= _compared(model, vocabulary, partial, added, tolerance)
        if vocabulary is not None:
            quality = measure_quality(model, LiteRTSampler(partial), rows, vocabulary)
            report |= {"quality": quality._asdict(), "vocabulary_sha256": vocabulary.sha256}
        _refuse_loss(report, quantization, max_loss)
        add_card(partial, _card(model, report, card or {}))
        read_bundle(partial)
        report["bytes"] = partial.stat().st_size
        partial_report.write_bytes(to_json(report))
    return report


def _require_one_of(name: str, value: object, expected: Iterable[str]) -> None:
    if value not in list(expected):
        raise ValueError(f"`{name}` must be one of {', '.join(expected)}. Received: {name}={value!r}")


def _require_card(card: Mapping[str, Any] | None) -> None:
    try:
        to_json(dict(card or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`card` must be a dictionary that can be written as JSON: {error}") from error


def _settings(sampling: Mapping[str, Any] | None) -> SamplingSettings:
    try:
        return SamplingSettings(**(sampling or {}))
    except TypeError as error:
        names = ", ".join(field.name for field in dataclasses.fields(SamplingSettings))
        raise ValueError(f"`sampling` must be settings among {names}. Received: {sampling!r}") from error


def _in_float32(model: keras.Model, trained_in: list[str]) -> keras.Model:
    try:
        return float32_copy(model)
    except ValueError as error:
        raise ValueError(
            f"`model` computes in {', '.join(trained_in)}, TFLite's operators in float32, and {error}; build it again under the "
            "float32 policy and give it the weights with `set_weights`"
        ) from error


def _compared(
    model: keras.Model, vocabulary: Vocabulary | None, path: Path, added: np.ndarray | None, tolerance: float
) -> dict[str, Any]:
    try:
        return compare_file(model, vocabulary, LiteRTDecoder(path), added, tolerance)
    except RuntimeError as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"LiteRT does not run the file: {str(error).splitlines()[0]}") from error


def _endpoints(step: GraphStep, added: np.ndarray | None, state: str, batch: int) -> dict[str, Endpoint]:
    """Returns the signatures, the first of the file first; `added` to the logits is what forbids tokens."""
    endpoints = {DECODE: decode_endpoint(step, batch), PREFILL: prefill_endpoint(step, batch)}
    if added is not None:
        endpoints[SAMPLE] = sample_endpoint(step, added, batch)
    if state == "explicit":
        return endpoints
    inside = StatesInside(step, batch)
    return {**{name: inside.endpoint(endpoint) for name, endpoint in endpoints.items()}, RESET: inside.reset_endpoint()}


def _convert(endpoints: dict[str, Endpoint], quantization: str) -> bytes:
    archive = keras.export.ExportArchive()
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, *endpoint)
    with tempfile.TemporaryDirectory() as directory:
        try:
            archive.write_out(directory, verbose=False)
        except tf.errors.OpError as error:
            raise ExportError(
                f"temporary files cannot be written: {error.message.partition(chr(10))[0]}; free some space, or set TMPDIR"
            ) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=list(endpoints))
        # Builtins only: a Flex op would pull all of TensorFlow onto the device.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        try:
            content = converter.convert()
        except Exception as error:  # The converter's own class is not public; its text runs to thousands of characters.
            found = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
            reason = f"it needs {found[1]}" if found else str(error).partition("\n")[0][:200]
            raise ExportError(f"the model does not convert to TFLite's builtin operators: {reason}") from error
    model = flatbuffer.parse(content)
    read_tokens_as_they_are(model)
    fold_embeddings(model)
    flatbuffer.drop_unread(model)
    quantize_weights(model, quantization)
    return flatbuffer.pack(model)


def _checked_contents(path: Path, quantization: str) -> dict[str, Any]:
    """Returns operators and bytes of the file; refuses operators that a plain runtime lacks, and weights that stayed large."""
    parsed = flatbuffer.parse(path.read_bytes())
    operators = {name: signature.operators for name, signature in flatbuffer.signatures(parsed).items()}
    for name, counts in operators.items():
        refused = {"CUSTOM"} if name == PREFILL else {"CUSTOM", "WHILE"}
        if found := sorted(refused & set(counts)):
            raise ExportError(f"{name} must run on builtin operators without loops; it has {', '.join(found)}")
    stored = flatbuffer.stored_bytes(parsed)
    numbers = {dtype: size * 8 // _BITS[dtype] for dtype, size in stored.items() if dtype in _BITS}
    if QUANTIZATIONS[quantization] not in stored or (
        quantization != "none" and numbers.get("float32", 0) > 0.5 * sum(numbers.values())
    ):
        raise ExportError(
            f"{quantization} changes little in this model: most of its numbers are not in large embeddings or kernels of dense and "
            f"recurrent layers, which alone are quantized, from {SMALLEST:,} numbers on; use quantization='none'"
        )
    return {"operators": operators, "stored_bytes": stored}


def _refuse_loss(report: dict[str, Any], quantization: str, max_loss: float) -> None:
    """Refuses a quantized file that answers too differently from its model."""
    if quantization == "none":
        return
    if "quality" not in report:
        if report["relative_error"] > _LARGEST_RELATIVE_ERROR:
            raise ExportError(
                f"{quantization} changes the outputs by {report['relative_error']:.1%} of their spread, more than "
                f"{_LARGEST_RELATIVE_ERROR:.0%}; use another quantization, or none"
            )
        return
    lost = report["quality"]["nats_lost"]
    if not lost <= max_loss:
        raise ExportError(
            f"{quantization} costs {lost:.4f} nats a token, more than the {max_loss:g} allowed (max_loss); "
            "use another quantization, or none"
        )


def _card(model: keras.Model, report: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the model card: what was given, and what is known of the model."""
    quality = report.get("quality", {})
    measured = {}
    if quality.get("text") == "held_out":
        read = f"{quality['tokens']:,} held-out tokens, {'by line' if report['by_line'] else f'in windows of {WINDOW}'}"
        measured = {"nats_per_token": round(quality["nats_of_file"], 4), "measured_on": read}
    return {
        "name": model.name,
        "license": "not stated",
        **given,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": model.count_params(),
        "quantization": report["quantization"],
        "versions": {"keras_seq": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        **measured,
    }
