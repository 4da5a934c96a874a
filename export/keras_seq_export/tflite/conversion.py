"""Converting a model to the flatbuffer of a .tflite that runs on builtin operators."""

import re

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.files import temporary_folder, why_not_written
from keras_seq.models.checks import reason_of
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.encoder import encode_endpoint
from keras_seq_export.graph.endpoints import (
    Endpoint,
    StateVariables,
    decode_endpoint,
    gates_endpoint,
    prefill_endpoint,
    sample_endpoint,
    start_endpoint,
    write_endpoint,
)
from keras_seq_export.graph.learning import LearningStep
from keras_seq_export.graph.sampling import SMALL_VOCABULARY
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.publishing import system_error
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    GATES,
    GET_WEIGHTS,
    INTEGER,
    LEARN,
    PREFILL,
    QUANTIZATIONS,
    RESET,
    RESET_WEIGHTS,
    SAMPLE,
    SET_WEIGHTS,
    START,
    WRITE,
    is_quantized,
)
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.contents import Contents, contents_of
from keras_seq_export.tflite.embedding_folding import fold_embeddings, remove_negative_index_handling
from keras_seq_export.tflite.filled_zeros import fill_zeros
from keras_seq_export.tflite.integer.conversion import integer_model
from keras_seq_export.tflite.quantization import BLOCK, SMALLEST, quantize_weights

_LOOPS = (PREFILL, WRITE, ENCODE, LEARN)
_INTEGERS = ("bool", "int8", "int16", "int32", "int64")
_BITS = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}


def signature_endpoints(
    step: GraphStep,
    vocabulary: Vocabulary | None,
    logit_bias: np.ndarray | None,
    state: str,
    batch: int,
    source_steps: int,
    gates: bool = False,
    integer: bool = False,
) -> dict[str, Endpoint]:
    """Returns the signatures by name, in the order of the file.

    A file of integers has `decode`, and `start` if its states do not begin at zero.

    Args:
        step: the model; a `LearningStep` for a file that learns.
        vocabulary: the vocabulary; None leaves `sample` and `write` out.
        logit_bias: added to the logits by `sample` and `write`, which forbids tokens; None without a vocabulary.
        state: `"explicit"` or `"internal"`.
        batch: rows of each signature.
        source_steps: frames of a source that one call of `encode` takes.
        gates: whether to add `gates`; for a model of text with explicit states.
        integer: whether the file is to hold integers only.
    """
    if integer:
        decode = {DECODE: decode_endpoint(step, batch)}
        return decode if step.begins_at_zero else {**decode, START: start_endpoint(step, batch)}
    endpoints = {DECODE: decode_endpoint(step, batch), PREFILL: prefill_endpoint(step, batch)}
    if vocabulary is not None and logit_bias is not None:
        endpoints[SAMPLE] = sample_endpoint(step, logit_bias, batch)
        # The draw from a large vocabulary has 800 operators: a second copy would be 143 kB, and gains nothing. A text that
        # goes on differently after some of its tokens needs the states before them: internal ones are lost.
        if len(vocabulary) <= SMALL_VOCABULARY and state == "explicit":
            endpoints[WRITE] = write_endpoint(step, logit_bias, batch, vocabulary.eos_id)
    if gates:
        endpoints[GATES] = gates_endpoint(step, batch)
    if step.has_encoder:
        return {**endpoints, ENCODE: encode_endpoint(step, batch, source_steps)}
    if state == "explicit":
        endpoints |= {} if step.begins_at_zero else {START: start_endpoint(step, batch)}
        return _learning(step, endpoints) if isinstance(step, LearningStep) else endpoints
    inside = StateVariables(step, batch)
    return {**{name: inside.endpoint(endpoint) for name, endpoint in endpoints.items()}, RESET: inside.reset_endpoint()}


def _learning(step: LearningStep, endpoints: dict[str, Endpoint]) -> dict[str, Endpoint]:
    """Returns signatures that use what was learned, and those that change it."""
    return {
        **{name: step.reading_once(endpoint) for name, endpoint in endpoints.items()},
        LEARN: step.learn_endpoint(),
        GET_WEIGHTS: step.get_endpoint(),
        SET_WEIGHTS: step.set_endpoint(),
        RESET_WEIGHTS: step.reset_endpoint(),
    }


def convert(endpoints: dict[str, Endpoint], quantization: str, frame_range: float | None = None) -> bytes:
    """Returns the flatbuffer with these signatures, its embeddings folded and its weights quantized.

    Args:
        endpoints: the signatures.
        quantization: see `export_tflite`.
        frame_range: likewise.

    Raises:
        ExportError: the model needs an operator that TFLite lacks or that has no form in integers, or temporary files
            cannot be written.
    """
    model = flatbuffer.parse(_convert_to_builtins(endpoints))
    remove_negative_index_handling(model)
    fold_embeddings(model)
    fill_zeros(model)
    flatbuffer.separate_constant_outputs(model)
    flatbuffer.remove_unused_tensors(model)
    if quantization == INTEGER:
        return integer_model(flatbuffer.pack(model), frame_range or 1.0)
    quantize_weights(model, quantization)
    return flatbuffer.pack(model)


def _convert_to_builtins(endpoints: dict[str, Endpoint]) -> bytes:
    """Returns the flatbuffer as TensorFlow's converter writes it."""
    archive = keras.export.ExportArchive()
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, *endpoint)
    with temporary_folder() as directory:
        try:
            archive.write_out(str(directory), verbose=False)
        except tf.errors.OpError as error:
            cause = system_error(error) or OSError(error.message.partition("\n")[0])
            why = why_not_written(directory.parent, cause)
            raise ExportError(f"{why}, or set TMPDIR to another folder") from error
        except AssertionError as error:  # TensorFlow's error for an object that is no variable.
            raise ExportError(
                "the model holds a table, such as that of a lookup layer, which a .tflite cannot hold"
            ) from error
        except ExportError:
            raise
        except Exception as error:  # Keras, TensorFlow and custom layers have error classes of their own.
            raise ExportError(f"a layer cannot be in a .tflite: {reason_of(error)}") from error
        converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=list(endpoints))
        # Builtins only: a Flex op would pull all of TensorFlow onto the device.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        try:
            return converter.convert()
        except (
            Exception
        ) as error:  # The converter's error class is not public; its message has thousands of characters.
            found = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
            reason = f"it needs {found[1]}" if found else str(error).partition("\n")[0][:200]
            raise ExportError(f"the model does not convert to TFLite's builtin operators: {reason}") from error


def checked_contents(content: bytes, quantization: str) -> Contents:
    """Returns the contents of a flatbuffer.

    Raises:
        ExportError: a signature has an operator that is not builtin, or a signature other than `prefill`, `write`,
            `encode` and `learn` has a loop; or most weights are still float32 after quantization, or a number of an integer file.
    """
    contents = contents_of(content)
    for name, signature in contents.signatures.items():
        refused = {"CUSTOM"} if name in _LOOPS else {"CUSTOM", "WHILE"}
        if found := sorted(refused & set(signature.operators)):
            raise ExportError(f"{name} must run on builtin operators without loops; it has {', '.join(found)}")
    if quantization == INTEGER:
        if found := [dtype for dtype in contents.dtypes if dtype not in _INTEGERS]:
            raise ExportError(f"an integer file must have integers only; it has tensors of {', '.join(found)}")
        return contents
    counts = {dtype: size * 8 // _BITS[dtype] for dtype, size in contents.stored_bytes.items() if dtype in _BITS}
    mostly_float32 = counts.get("float32", 0) > 0.5 * sum(counts.values())
    if QUANTIZATIONS[quantization] not in contents.stored_bytes or (is_quantized(quantization) and mostly_float32):
        quantized = (
            f"kernels of dense and recurrent layers whose inputs are a multiple of {BLOCK}"
            if quantization == "int4"
            else "embeddings and kernels of dense, recurrent and convolutional layers"
        )
        raise ExportError(
            f"{quantization} changes little in this model: only {quantized} with at least {SMALLEST:,} weights are quantized to it, "
            "and most weights are elsewhere; use another {}, or none",
            "quantization",
        )
    return contents
