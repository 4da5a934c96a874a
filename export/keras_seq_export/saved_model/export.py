"""Exporting a trained model as a SavedModel for TensorFlow Serving: text in, text out.

`serving_default` generates texts: the whole token loop runs in the graph, and each row has its own settings and its own
random stream. `score` returns the log-probability of texts. `prefill`, `decode` and `sample` run steps of the model
with the states as inputs and outputs, for clients that generate token by token; `start` gives these clients the
vocabulary and the initial states. The SavedModel keeps no state between requests, because a server shares one model among
all its clients.
"""

import json
import os
import pathlib
import tempfile
from typing import Any

import keras
import tensorflow as tf

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.request_checks import checked_endpoint, real_tokens, step_checks
from keras_seq_export.graph.step import (
    Endpoint,
    GraphStep,
    decode_endpoint,
    float32_step,
    named_states,
    prefill_endpoint,
    sample_endpoint,
)
from keras_seq_export.graph.text import default_max_tokens, generate_endpoint, score_endpoint
from keras_seq_export.graph.tokenizer import GraphTokenizer
from keras_seq_export.publishing import publishing_export
from keras_seq_export.requests import initial_states, sampling_inputs, warm_up_requests
from keras_seq_export.saved_model.parity import verify
from keras_seq_export.saved_model.serving_files import next_version, write_configuration, write_warm_up
from keras_seq_export.signatures import (
    DECODE,
    GENERATE,
    MAX_TOKENS,
    PREFILL,
    SAMPLE,
    SCORE,
    START,
    TOKEN,
    VOCABULARY_BYTES,
)


def export_saved_model(
    model: keras.Model,
    vocabulary: Vocabulary,
    path: str | os.PathLike[str],
    *,
    max_length: int = 10_000,
) -> dict[str, Any]:
    r"""Writes a SavedModel and publishes it under `path` after the file has been verified against `model`.

    **serving_default** generates texts. Every input has a batch dimension. Over gRPC all inputs but `prompt` may be
    omitted. Over REST, TensorFlow Serving requires every input, and a server that batches requires one value per row.

    =================  =======  ======  ==========================================================
    input              dtype    shape   meaning
    =================  =======  ======  ==========================================================
    prompt             string   [B]     text to continue, UTF-8; empty starts a new text
    max_tokens         int32    [B]     largest number of tokens; default 200, or half of `max_length`
    temperature        float32  [B]     default 1; 0 always takes the most likely token
    top_k              int32    [B]     default 0 (off)
    top_p              float32  [B]     default 1 (off)
    min_p              float32  [B]     default 0 (off)
    seed               int64    [B]     default 0; a seed gives the same text as in `keras_seq.sample`
    =================  =======  ======  ==========================================================

    =================  =======  ======  ==========================================================
    output             dtype    shape   meaning
    =================  =======  ======  ==========================================================
    text               string   [B]     the continuation, without the prompt
    token_ids          int32    [B, T]  its tokens, padded with `<pad>` to the longest row
    length             int32    [B]     number of tokens before the padding
    log_probability    float32  [B]     in nats, of all sampled tokens including `<eos>`
    finish_reason      string   [B]     `eos` or `length`
    =================  =======  ======  ==========================================================

    Characters of a prompt that are not in the vocabulary become `<unk>` at the word level. At the character level they
    are an error.

    **score** reads whole texts after `<s>`: `text` string [B] -> `log_probability` float32 [B], in nats; `length` int32
    [B], the number of tokens; `token_ids` int32 [B, T], padded with `<pad>`; `log_probabilities` float32 [B, T], padded
    with 0.

    **decode** runs one step: `token` int32 [B] and `state_0`, `state_1`, ... float32 [B, units] -> `logits` float32
    [B, V] and the new states. Omitted states are the initial states, as at the start of a text; they are zero unless the
    model has others. The first token of a text is `<s>`.

    **prefill** runs 1 to 64 steps: `tokens` int32 [B, 64], `length` int32 [B] (how many of them to read) and the states
    -> `logits` after the last token of each row, and the new states.

    **sample** runs one step and samples the next token: `token`, `uniform` float32 [B] in [0, 1), `temperature`,
    `top_k`, `top_p`, `min_p` (off if omitted) and the states -> `next_token` int32 [B], `log_probability` float32 [B]
    and the new states.

    **start** returns what a client needs before the first step: `token` int32 [B], of any value -> `vocabulary_bytes`
    string [B], the file `vocab.txt`; `max_tokens` int32 [B], the default of `serving_default`; and the initial states.

    A server that batches runs the requests of several clients together. The rows do not affect each other's answers,
    but an invalid row fails the whole batch, and every client in it receives the error message.

    The version contains warm-up requests. `model.config` and `batching_parameters.txt` are written next to it, for a
    server that has the parent of the model's directory mounted as `/models`. Existing files are kept.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        path: the model's directory, such as "serving/shakespeare", in which the next version is written; or the
            directory of a version, such as "serving/shakespeare/1", which must not exist.
        max_length: the largest number of tokens in a prompt and its continuation together, or in a text to score.
            Longer requests are refused.

    Returns:
        The report of the verification, which `assets.extra/report.json` also holds, and the `path` of the version.

    Raises:
        ExportError: `path` exists or cannot be written, a weight is not finite, or the outputs of the file differ from
            the model's. Nothing is left behind, except that the version is published if only the files next to it
            cannot be written.
        ValueError: `vocabulary` is not the model's, the model cannot be exported, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_saved_model(model, vocabulary, tempfile.mkdtemp() + "/1")
        >>> sorted(report["signatures"])
        ['decode', 'prefill', 'sample', 'score', 'serving_default', 'start']
    """
    require.integer("max_length", max_length, at_least=1, at_most=2**31 - 1)
    require.that(isinstance(vocabulary, Vocabulary), "vocabulary", "a Vocabulary", vocabulary)
    exported, step, _ = float32_step(model, vocabulary)
    version = next_version(pathlib.Path(path))
    with publishing_export(version) as (partial,):
        write_signatures(step, vocabulary, partial, max_length)
        extra = partial / "assets.extra"
        extra.mkdir()
        write_warm_up(extra, warm_up_requests(vocabulary.start_id, max_length, step.initial))
        report = verify(model, exported, vocabulary, partial, step.initial, max_length).to_dict()
        (extra / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    try:
        write_configuration(version.absolute().parent)
    except OSError as error:
        raise ExportError(
            f"{version} is published, but {error.filename} cannot be written: {error.strerror}"
        ) from error
    return {**report, "path": os.fspath(version)}


def write_signatures(step: GraphStep, vocabulary: Vocabulary, directory: pathlib.Path, max_length: int) -> None:
    """Writes a SavedModel with all signatures, without verifying it.

    The archive tracks only what the signatures use, so the weights are stored once.

    Args:
        step: the one-step decoder.
        vocabulary: its vocabulary, stored as an asset.
        directory: the SavedModel to write.
        max_length: the largest number of tokens in a text.
    """
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(pathlib.Path(folder, "vocab.txt"))
        tokenizer = GraphTokenizer(vocabulary, os.path.join(folder, "vocab.txt"))
        archive = keras.export.ExportArchive()
        for table in tokenizer.tables:
            archive.track(table)
        archive.add_endpoint(GENERATE, *generate_endpoint(step, tokenizer, vocabulary, max_length))
        archive.add_endpoint(SCORE, *score_endpoint(step, tokenizer, vocabulary, max_length))
        bias = logit_bias(vocabulary, SamplingSettings())
        defaults = {**initial_states(step.initial), **sampling_inputs([SamplingSettings()])}
        for name, endpoint in (
            (DECODE, decode_endpoint(step, batch=None)),
            (PREFILL, _prefill_endpoint(step)),
            (SAMPLE, sample_endpoint(step, bias, batch=None)),
        ):
            checked = checked_endpoint(endpoint, defaults, lambda inputs: step_checks(inputs, len(vocabulary)))
            archive.add_endpoint(name, *checked)
        archive.add_endpoint(START, *_start_endpoint(step, vocabulary, max_length))
        archive.write_out(os.fspath(directory), verbose=False)


def _prefill_endpoint(step: GraphStep) -> Endpoint:
    """Returns `prefill` with each row's padding replaced by token 0, so that an invalid id there fails no batch."""
    function, specs = prefill_endpoint(step, batch=None)

    def prefill(tokens: tf.Tensor, length: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(real_tokens(tokens, length), length, *states)

    return prefill, specs


def _start_endpoint(step: GraphStep, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """Returns `start`; its only input sets the number of rows."""
    content = vocabulary.to_bytes()

    def start(token: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(token)
        return {
            VOCABULARY_BYTES: tf.fill(rows, content),
            MAX_TOKENS: tf.fill(rows, default_max_tokens(max_length)),
            **named_states(step.initial_states(rows[0])),
        }

    return checked_endpoint((start, [tf.TensorSpec([None], tf.int32, TOKEN)]), {})
