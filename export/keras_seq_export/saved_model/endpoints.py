"""The signatures of a SavedModel: those of a model of text, and those of any other model."""

import hashlib
import inspect
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.files import temporary_folder
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export.graph.encoder import length_name
from keras_seq_export.graph.endpoints import (
    Endpoint,
    decode_endpoint,
    named_states,
    prefill_endpoint,
    sample_endpoint,
)
from keras_seq_export.graph.first_states import FirstStates
from keras_seq_export.graph.limits import Limits, most_rows
from keras_seq_export.graph.request_checks import checked_endpoint, real_tokens, step_checks
from keras_seq_export.graph.series import series_endpoint
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.graph.text import default_max_tokens, generate_endpoint, score_endpoint
from keras_seq_export.graph.tokenizer import GraphTokenizer
from keras_seq_export.requests import initial_states, sampling_inputs
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    ENCODER,
    GENERATE,
    MAX_TOKENS,
    MODEL_ID,
    PLURALS,
    PREFILL,
    ROW,
    SAMPLE,
    SCORE,
    START,
    TOKEN,
    VOCABULARY_BYTES,
)


def write_signatures(step: GraphStep, vocabulary: Vocabulary, directory: pathlib.Path, max_length: int) -> None:
    """Writes a SavedModel of a model of text with all signatures, without verifying it.

    Args:
        step: the one-step decoder.
        vocabulary: its vocabulary, stored as an asset.
        directory: the SavedModel to write.
        max_length: the largest number of tokens in a text.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Beside the SavedModel: one disk that may be full, not two.
    with temporary_folder(inside=directory.parent) as folder:
        vocabulary.save(folder / "vocab.txt")
        tokenizer = GraphTokenizer(vocabulary, str(folder / "vocab.txt"))
        bias, counts = logit_bias(vocabulary, SamplingSettings()), {TOKEN: len(vocabulary)}
        endpoints = {
            GENERATE: generate_endpoint(step, tokenizer, vocabulary, max_length),
            SCORE: score_endpoint(step, tokenizer, vocabulary, max_length),
            **_step_endpoints(step, counts, Limits(max_length)),
            SAMPLE: _checked(step, sample_endpoint(step, bias, batch=None), counts),
            START: _text_start(step, vocabulary, max_length),
        }
        of_model = model_id(step, vocabulary)
        named = {name: _with_model_id(endpoint, of_model) for name, endpoint in endpoints.items()}
        _write(named, directory, tokenizer.tables)


def model_id(step: GraphStep, vocabulary: Vocabulary) -> str:
    """Returns the SHA-256 of a model's vocabulary and weights."""
    digest = hashlib.sha256(vocabulary.to_bytes())
    parts = [step.stepped.decoder] + ([step.stepped.graph.encoder] if step.has_encoder else [])
    for weight in (weight for part in parts for weight in part.get_weights()):
        digest.update(f"{weight.dtype} {weight.shape} ".encode() + weight.tobytes())
    return digest.hexdigest()


def _with_model_id(endpoint: Endpoint, of_model: str) -> Endpoint:
    """Returns a signature that also returns the model's id, for each row."""
    function, specs = endpoint

    def named(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(*inputs)
        rows = tf.shape(next(iter(outputs.values())))[0]  # The outputs have passed the checks of the request.
        return {**outputs, MODEL_ID: tf.fill([rows], of_model)}

    named.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return named, specs


def write_series_signatures(
    model: keras.Model, step: GraphStep, directory: pathlib.Path, max_length: int | None = None
) -> None:
    """Writes a SavedModel of a model that is not of text, without verifying it.

    Args:
        model: the model over sequences.
        step: its one-step form.
        directory: the SavedModel to write.
        max_length: the largest number of steps in a sequence; None gives the default, see `export_saved_model`.
    """
    limits = Limits.of(step, max_length)
    counts = {given.name: given.token_count for given in step.inputs if given.token_count is not None}
    endpoints = {GENERATE: series_endpoint(model, step, limits), **_step_endpoints(step, counts, limits)}
    if not step.has_encoder:
        endpoints[START] = _start(step)
    _write(endpoints, directory)


def _write(endpoints: Mapping[str, Endpoint], directory: pathlib.Path, tables: Sequence[Any] = ()) -> None:
    """Writes a SavedModel. The archive tracks only what the signatures use, so the weights are stored once."""
    archive = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    for name, endpoint in endpoints.items():
        archive.add_endpoint(name, *endpoint)
    archive.write_out(os.fspath(directory), verbose=False)


def _step_endpoints(step: GraphStep, counts: Mapping[str, int], limits: Limits) -> dict[str, Endpoint]:
    """Returns `decode` and `prefill`, and `encode` if the model has an encoder.

    Args:
        step: the model.
        counts: see `step_checks`.
        limits: how large a request may be.
    """
    endpoints = {
        DECODE: _checked(step, decode_endpoint(step, batch=None), counts),
        PREFILL: _checked(step, _prefill_endpoint(step, counts), counts),
    }
    return {**endpoints, ENCODE: FirstStates(step).encode_endpoint(limits)} if step.has_encoder else endpoints


def _checked(step: GraphStep, endpoint: Endpoint, counts: Mapping[str, int]) -> Endpoint:
    """Returns a signature with its defaults, which include the initial states if the model has its own."""
    states = {} if step.has_encoder else initial_states(step.initial)
    defaults: dict[str, np.ndarray] = {**states, **sampling_inputs([SamplingSettings()])}
    checks = lambda inputs: step_checks(inputs, counts)  # noqa: E731
    return checked_endpoint(endpoint, defaults, checks, most_rows=most_rows(step))


def _prefill_endpoint(step: GraphStep, counts: Mapping[str, int]) -> Endpoint:
    """Returns `prefill` with each row's padding replaced by token 0, so that an invalid id there fails no batch."""
    function, specs = prefill_endpoint(step, batch=None)
    ids = {PLURALS.get(name, name) for name in counts}

    def prefill(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        length = given[len(step.inputs)]
        real = (
            real_tokens(value, length) if spec.name in ids else value for spec, value in zip(specs, given, strict=True)
        )
        return function(*real)

    return prefill, specs


def _text_start(step: GraphStep, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """Returns the `start` of a model of text; its only input sets the number of rows."""
    content, encoder = vocabulary.to_bytes(), ""
    if step.has_encoder:
        encoder = json.dumps(encoder_description(step))

    def start(token: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(token)
        outputs = {
            VOCABULARY_BYTES: tf.fill(rows, content),
            MAX_TOKENS: tf.fill(rows, default_max_tokens(max_length)),
        }
        if step.has_encoder:
            return {**outputs, ENCODER: tf.fill(rows, encoder)}
        return {**outputs, **named_states(step.initial_states(rows[0]))}

    return checked_endpoint((start, [tf.TensorSpec([None], tf.int32, TOKEN)]), {})


def _start(step: GraphStep) -> Endpoint:
    """Returns the `start` of any other model."""

    def start(row: tf.Tensor) -> dict[str, tf.Tensor]:
        return named_states(step.initial_states(tf.shape(row)[0]))

    return checked_endpoint((start, [tf.TensorSpec([None], tf.int32, ROW)]), {}, most_rows=most_rows(step))


def encoder_description(step: GraphStep) -> dict[str, Any]:
    """Returns what a client has to know of the encoder: its inputs in their order, and the size of each state."""
    wanted = step.stepped.inputs_at_once
    inputs = [
        {
            "name": given.name,
            "dtype": spec.dtype.name,
            "shape": spec.shape.as_list()[1:],
            "length": length_name(given, wanted),
            "token_count": given.token_count,
        }
        for given, spec in zip(wanted, FirstStates(step).specs, strict=False)
    ]
    return {"inputs": inputs, "units": step.units}
