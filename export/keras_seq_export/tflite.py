"""A .tflite for LiteRT: one step of the model, its state explicit, its vocabulary inside, proved before it is published."""

import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_seq import __version__, graph_sampling
from keras_seq.sampling import SamplingSettings, log_softmax, logit_bias, next_token
from keras_seq.threefry import uniform
from keras_seq.vocabulary import EOS, Vocabulary
from keras_seq_export.bundle import write_bundle
from keras_seq_export.graph_step import GraphStep, decode_endpoint, named_states
from keras_seq_export.runtime import LiteRTSampler
from keras_seq_export.signatures import (
    DECODE,
    LOG_PROBABILITY,
    NEXT_TOKEN,
    SAMPLE,
    SETTINGS,
    TOKEN,
    UNIFORM,
    state_name,
)
from keras_seq_export.verify import ExportError, compare, possible_draws, publishing, reference_logits

QUANTIZATIONS = ("none", "int8")
CHECKED_TOKENS = 256
LARGEST_LOSS = 0.05  # nats a token that int8 weights may cost on the checked tokens


def export_tflite(
    model: keras.Model,
    vocabulary: Vocabulary,
    path: str | os.PathLike[str],
    quantization: str = "none",
    sampling: dict[str, Any] | None = None,
    by_line: bool = False,
) -> dict[str, Any]:
    """Writes a .tflite with the signatures `decode` and `sample`, batch 1, builtin operators only.

    The file is loaded again in LiteRT and compared with the model before it gets its name; a report goes beside it as
    `<name>.report.json`.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary; it travels inside the file.
        path: the file to write; it must not exist.
        quantization: `"none"` (float32) or `"int8"` (weights in 8 bits, one scale a tensor, so that old runtimes load them).
        sampling: default settings of the draw, stored in the file for `LiteRTSampler`. Its `bias` and `allow_unk` are
            built into `sample` too; what else it sets, `sample` takes as inputs, or (`repetition_penalty`) not at all.
        by_line: whether the model was trained line by line.

    Returns:
        The report: operators, bytes, largest difference of a logit, what was compared.

    Raises:
        ExportError: `path` exists, or the file does not answer as the model does; nothing is left behind.
        ValueError: `model` and `vocabulary` do not belong together, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_tflite(model, vocabulary, tempfile.mkdtemp() + "/to_be.tflite")
        >>> report["largest_difference"] < 1e-4
        True
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {', '.join(QUANTIZATIONS)}. Received: {quantization!r}")
    step = GraphStep(model, vocabulary)
    added = logit_bias(vocabulary, SamplingSettings(**(sampling or {})))
    if set(step.dtypes) != {"float32"}:
        raise ValueError(
            f"`model` must compute in float32, as TFLite's operators do. Received: {model.name} in {step.dtypes[0]}; "
            "build it again under the float32 policy and give it the weights with `set_weights`"
        )
    path = Path(path)
    config = {"keras_seq": __version__, "by_line": by_line, "quantization": quantization}
    with publishing(path, path.with_name(f"{path.name}.report.json")) as (partial, partial_report):
        content = _convert(step, added, quantization)
        parsed = schema.ModelT.InitFromPackedBuf(content)
        operators, stored = _operators(parsed), _stored_bytes(parsed)
        if quantization == "int8" and "int8" not in stored:
            raise ExportError(
                "int8 changes nothing in this model: the converter leaves weights of fewer than 1,024 numbers in float32; "
                'use quantization="none"'
            )
        partial.write_bytes(content)
        write_bundle(partial, vocabulary, {**config, "sampling": sampling or {}})
        report = {
            "format": "tflite",
            **config,
            "operators": operators,
            "stored_bytes": stored,
            "bytes": partial.stat().st_size,
            **_verify(model, vocabulary, partial, quantization, added),
            "vocabulary_sha256": vocabulary.sha256,
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        }
        partial_report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _convert(step: GraphStep, added: np.ndarray, quantization: str) -> bytes:
    archive = keras.export.ExportArchive()
    archive.add_endpoint(DECODE, *decode_endpoint(step, batch=1))
    archive.add_endpoint(SAMPLE, *_sample_endpoint(step, added))
    with tempfile.TemporaryDirectory() as directory:
        archive.write_out(directory, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[DECODE, SAMPLE])
        # Builtins only: a Flex op would pull all of TensorFlow onto the device.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantization == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            # One scale a tensor: runtimes before 2.17 refuse dense layers with a scale a channel.
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        try:
            return converter.convert()
        except Exception as error:  # The converter's own class is not public; its text runs to thousands of characters.
            found = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
            reason = f"it needs {found[1]}" if found else str(error).partition("\n")[0][:200]
            raise ExportError(f"the model does not convert to TFLite's builtin operators: {reason}") from error


def _sample_endpoint(step: GraphStep, added: np.ndarray) -> tuple[Any, list[tf.TensorSpec]]:
    """Returns the function and the input signature of `sample`; `added` to the logits is what forbids tokens."""

    def sample(
        token: tf.Tensor,
        uniform: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        *states: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        logits, new_states = step(token, states)
        drawn = graph_sampling.next_token(logits, uniform, temperature, top_k, top_p, min_p, added)
        log_probability = graph_sampling.log_probability(logits, drawn)
        return {NEXT_TOKEN: drawn, LOG_PROBABILITY: log_probability, **named_states(new_states)}

    inputs = {TOKEN: "int32", UNIFORM: "float32", **SETTINGS}
    return sample, [*(tf.TensorSpec([1], dtype, name) for name, dtype in inputs.items()), *step.state_specs(1)]


def _stored_bytes(model: schema.ModelT) -> dict[str, int]:
    """Returns the bytes of the constants in the file by dtype."""
    dtypes = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
    buffers = {tensor.buffer: dtypes[tensor.type] for graph in model.subgraphs for tensor in graph.tensors}
    stored: Counter[str] = Counter()
    for index, dtype in buffers.items():
        data = model.buffers[index].data
        stored[dtype] += 0 if data is None else len(data)
    return {dtype: size for dtype, size in sorted(stored.items()) if size}


def _operators(model: schema.ModelT) -> dict[str, dict[str, int]]:
    """Counts the operators of each signature; refuses those that a plain runtime lacks."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    counts = {}
    for signature in model.signatureDefs:
        name = signature.signatureKey.decode()
        codes = [
            model.operatorCodes[op.opcodeIndex].builtinCode for op in model.subgraphs[signature.subgraphIndex].operators
        ]
        counts[name] = dict(sorted(Counter(names[code] for code in codes).items()))
        refused = [operator for operator in ("CUSTOM", "WHILE") if operator in counts[name]]
        if refused:
            raise ExportError(f"{name} must run on builtin operators without loops; it has {', '.join(refused)}")
    return counts


def _verify(
    model: keras.Model, vocabulary: Vocabulary, path: Path, quantization: str, added: np.ndarray
) -> dict[str, Any]:
    """Compares `decode` with the sequence model and `sample` with the host's draw, over tokens drawn from the file itself."""
    runtime = LiteRTSampler(path)
    # No model has learned what follows <eos>.
    settings = SamplingSettings(bias={EOS: -np.inf})
    going_on = logit_bias(vocabulary, settings)
    tokens, logits, states = [vocabulary.start_id], [], [runtime.initial_states()]
    for position in range(CHECKED_TOKENS):
        answer, new_states = runtime(tokens[-1], states[-1])
        logits.append(answer)
        states.append(new_states)
        tokens.append(next_token(answer, float(uniform(0, position)), settings, going_on))
    actual, read = np.stack(logits), np.array(tokens[:-1], np.int32)
    expected = reference_logits(model, read)
    if quantization == "none":
        checked = {"largest_difference": compare(DECODE, expected, actual)}
    else:
        checked = _quality(expected, actual)
    return {
        "tokens_compared": CHECKED_TOKENS,
        **checked,
        **_verify_sample(path, vocabulary, read, states, actual, added),
    }


def _quality(expected: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """What quantization costs: extra nats a token under the float model's own distribution, and the greedy token's agreement."""
    difference = compare(DECODE, expected, actual, tolerance=np.inf)
    # The Kullback-Leibler divergence: how many nats a token the file loses on text of the model's own.
    of_model, of_file = log_softmax(expected), log_softmax(actual)
    loss = float((np.exp(of_model) * (of_model - of_file)).sum(-1).mean())
    if loss > LARGEST_LOSS:
        raise ExportError(
            f"{DECODE}: 8-bit weights cost {loss:.4f} nats a token, more than {LARGEST_LOSS}; logits differ by up to {difference:.3g}"
        )
    agreement = float((expected.argmax(-1) == actual.argmax(-1)).mean())
    return {"largest_difference": difference, "nats_lost": loss, "greedy_agreement": agreement}


def _verify_sample(
    path: Path,
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    states: list[Any],
    logits: np.ndarray,
    added: np.ndarray,
) -> dict[str, int]:
    """The `sample` signature must draw what the host draws from the logits of `decode`, near-ties apart, and go to its states."""
    run = Interpreter(model_path=os.fspath(path)).get_signature_runner(SAMPLE)
    kinds = [
        SamplingSettings(),
        SamplingSettings(temperature=0.8, top_p=0.95),
        SamplingSettings(top_k=5, min_p=0.02),
        SamplingSettings(temperature=0),
    ]
    near_ties = 0
    for position, token in enumerate(tokens):
        settings = kinds[position % len(kinds)]
        number = float(uniform(1, position))
        answer = run(
            **{TOKEN: np.array([token], np.int32), UNIFORM: np.array([number], np.float32)},
            **{name: np.array([getattr(settings, name)], dtype) for name, dtype in SETTINGS.items()},
            **{state_name(index): state for index, state in enumerate(states[position])},
        )
        drawn = int(answer[NEXT_TOKEN][0])
        possible = possible_draws(logits[position], number, settings, added)
        if drawn not in possible:
            raise ExportError(
                f"{SAMPLE}: token {position} drawn by the file is {drawn}, by the host one of {sorted(possible)}"
            )
        near_ties += len(possible) > 1
        compare(f"{SAMPLE}, {LOG_PROBABILITY}", log_softmax(logits[position])[[drawn]], answer[LOG_PROBABILITY])
        for index, state in enumerate(states[position + 1]):
            compare(f"{SAMPLE}, {state_name(index)}", state, answer[state_name(index)])
    return {"draws_compared": len(tokens), "near_ties": near_ties}
