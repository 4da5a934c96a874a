"""A trained model as a SavedModel for TensorFlow Serving: strings in, strings out, and a decoder with explicit state.

`serving_default` writes texts: the whole token loop runs in the graph, each row with its own settings and its own random
stream. `score` tells how likely texts are. `prefill`, `decode` and `sample` are steps of the model with the states as
inputs and outputs, for clients that write token by token; `start` tells these the vocabulary and the zero states. Nothing is
kept between two requests, since a server shares one model among all its clients.
"""

import json
import os
import pathlib
import tempfile
from typing import Any

import keras
import tensorflow as tf

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.request_checks import for_clients, real_tokens, step_checks
from keras_seq_export.graph.step import (
    Endpoint,
    GraphStep,
    decode_endpoint,
    named_states,
    prefill_endpoint,
    sample_endpoint,
)
from keras_seq_export.graph.text import default_max_tokens, generate_endpoint, score_endpoint
from keras_seq_export.graph.tokenizer import GraphTokenizer
from keras_seq_export.publishing import publishing
from keras_seq_export.requests import sampling_inputs, warm_up_requests, zero_states
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
    r"""Writes a SavedModel, and publishes it under `path` only after the file itself has proved equal to `model`.

    Signature `serving_default`; every input has a batch dimension, and all but `prompt` may be left out over gRPC (over REST
    TensorFlow Serving wants them all, and a server that batches wants a value a row):

    =================  =======  ======  ==========================================================
    input              dtype    shape   meaning
    =================  =======  ======  ==========================================================
    prompt             string   [B]     text to go on from, UTF-8; empty starts a new text
    max_tokens         int32    [B]     tokens to write at most; 200, or half of `max_length`
    temperature        float32  [B]     1; 0 takes the likeliest token
    top_k              int32    [B]     0, off
    top_p              float32  [B]     1, off
    min_p              float32  [B]     0, off
    seed               int64    [B]     0; the same seed gives the same text as `keras_seq.sample`
    =================  =======  ======  ==========================================================

    =================  =======  ======  ==========================================================
    output             dtype    shape   meaning
    =================  =======  ======  ==========================================================
    text               string   [B]     the continuation, without the prompt
    token_ids          int32    [B, T]  its tokens, filled up with `<pad>`; T is the longest row's
    length             int32    [B]     how many of them are the row's own
    log_probability    float32  [B]     natural logarithm, of all tokens drawn, `<eos>` too
    finish_reason      string   [B]     `eos` or `length`
    =================  =======  ======  ==========================================================

    A prompt's characters outside the vocabulary are an error at the character level and `<unk>` at the word level.

    Signature `score`: `text` string [B] -> `log_probability` float32 [B], in nats, of the whole text after `<s>`; `length`
    int32 [B], its number of tokens; `token_ids` int32 [B, T] and `log_probabilities` float32 [B, T] token by token, filled
    up with `<pad>` and 0.

    Signature `decode`: `token` int32 [B] and `state_0`, `state_1`, ... float32 [B, units], zeros if they are left out, as at the
    start of a text -> `logits` float32 [B, V] and the new states. The first token of a text is `<s>`. Signature `prefill`:
    `tokens` int32 [B, 64], `length` int32 [B], of which 1 to 64 are read, and the states -> the logits after each row's last
    token, and the new states. Signature `sample`: `token`, `uniform` float32 [B] in [0, 1), `temperature`, `top_k`, `top_p`,
    `min_p` (all off if they are left out) and the states -> `next_token` int32 [B], `log_probability` float32 [B], and the
    new states. Signature `start`: `token` int32 [B], whatever it is -> `vocabulary_bytes` string [B],
    the file `vocab.txt`, `max_tokens` int32 [B], what `serving_default` takes if it is left out, and the zero states.

    A server that batches runs the requests of several clients as one. Their rows do not change each other's answers, but an
    error of one row, whichever, is an error for all of the batch, with what that row had in the message.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        path: the directory of the model, such as "serving/shakespeare", of which the next version is written; or that of a
            version, "serving/shakespeare/1", which must not exist.
        max_length: tokens that a prompt and its continuation, or a text to score, may have; a request for more is refused.

    Returns:
        The report of what was checked, which is also in `assets.extra/report.json`, and with it the `path` written.

    Beside the version are `model.config` and `batching_parameters.txt`, for a server to which the directory above the model's is
    mounted as `/models`; they are yours to change, and not written again. In the version are warm-up requests.

    Raises:
        ExportError: `path` exists or cannot be written, a weight is not finite, or the file does not give what the model
            gives; nothing is left behind. Or the files beside the version cannot be written; it is published then.
        ValueError: `model` and `vocabulary` do not belong together, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_saved_model(model, vocabulary, tempfile.mkdtemp() + "/1")
        >>> sorted(report["signatures"])
        ['decode', 'prefill', 'sample', 'score', 'serving_default', 'start']
    """
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not 1 <= max_length < 2**31:
        raise ValueError(f"`max_length` must be a positive 32-bit integer. Received: max_length={max_length!r}")
    if not isinstance(vocabulary, Vocabulary):
        raise ValueError(f"`vocabulary` must be a Vocabulary. Received: {vocabulary!r}")
    step = GraphStep(model, vocabulary)
    version = next_version(pathlib.Path(path))
    with publishing(version) as (partial,):
        _write(step, vocabulary, partial, max_length)
        extra = partial / "assets.extra"
        extra.mkdir()
        write_warm_up(extra, warm_up_requests(vocabulary.start_id, max_length, step.units))
        report = verify(model, vocabulary, partial, step.units, max_length)
        (extra / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    try:
        write_configuration(version.absolute().parent)
    except OSError as error:
        raise ExportError(
            f"{version} is published, but {error.filename} cannot be written: {error.strerror}"
        ) from error
    return {**report, "path": os.fspath(version)}


def _write(step: GraphStep, vocabulary: Vocabulary, directory: pathlib.Path, max_length: int) -> None:
    """Saves the signatures. Only what they use is tracked, so that the weights are stored once."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(pathlib.Path(folder, "vocab.txt"))
        tokenizer = GraphTokenizer(vocabulary, os.path.join(folder, "vocab.txt"))
        archive = keras.export.ExportArchive()
        for table in tokenizer.tables:
            archive.track(table)
        archive.add_endpoint(GENERATE, *generate_endpoint(step, tokenizer, vocabulary, max_length))
        archive.add_endpoint(SCORE, *score_endpoint(step, tokenizer, vocabulary, max_length))
        added = logit_bias(vocabulary, SamplingSettings())
        defaults = {**zero_states(step.units), **sampling_inputs([SamplingSettings()])}
        for name, endpoint in (
            (DECODE, decode_endpoint(step, batch=None)),
            (PREFILL, _prefill_endpoint(step)),
            (SAMPLE, sample_endpoint(step, added, batch=None)),
        ):
            checked = for_clients(endpoint, defaults, lambda inputs: step_checks(inputs, len(vocabulary)))
            archive.add_endpoint(name, *checked)
        archive.add_endpoint(START, *_start_endpoint(step, vocabulary, max_length))
        archive.write_out(os.fspath(directory), verbose=False)


def _prefill_endpoint(step: GraphStep) -> Endpoint:
    """Returns `prefill`, in which what follows a row's tokens is not looked up: it would fail the rows of others."""
    function, specs = prefill_endpoint(step, batch=None)

    def prefill(tokens: tf.Tensor, length: tf.Tensor, *states: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(real_tokens(tokens, length), length, *states)

    return prefill, specs


def _start_endpoint(step: GraphStep, vocabulary: Vocabulary, max_length: int) -> Endpoint:
    """Returns the signature that tells clients what they need before the first step; its input says how many rows."""
    content = vocabulary.to_bytes()

    def start(token: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(token)
        return {
            VOCABULARY_BYTES: tf.fill(rows, content),
            MAX_TOKENS: tf.fill(rows, default_max_tokens(max_length)),
            **named_states(step.initial_states(rows[0])),
        }

    return for_clients((start, [tf.TensorSpec([None], tf.int32, TOKEN)]), {})
