"""Exporting a trained model as a SavedModel for TensorFlow Serving.

With a vocabulary, `serving_default` generates texts: the whole token loop runs in the graph, and each row has its own
settings and its own random stream. `score` returns the log-probability of texts. Without one, `serving_default` is the
model over whole sequences. `prefill`, `decode` and `sample` run steps of the model with the states as inputs and outputs,
for clients that read or generate step by step; `start` or `encode` gives these clients the first states. The SavedModel
keeps no state between requests, because a server shares one model among all its clients.
"""

import json
import os
import pathlib
from typing import Any

import keras

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq_export.errors import ExportError
from keras_seq_export.graph.limits import Limits
from keras_seq_export.graph.step import GraphStep, float32_step
from keras_seq_export.publishing import publishing_export
from keras_seq_export.saved_model.endpoints import write_series_signatures, write_signatures
from keras_seq_export.saved_model.parity import verify
from keras_seq_export.saved_model.report import SavedModelReport
from keras_seq_export.saved_model.series_parity import verify_series
from keras_seq_export.saved_model.serving_files import next_version, write_configuration, write_warm_up
from keras_seq_export.saved_model.warm_up import series_warm_up, text_warm_up
from keras_seq_export.vocabulary_limits import require_exportable


def export_saved_model(
    model: keras.Model,
    vocabulary: Vocabulary | None,
    path: str | os.PathLike[str],
    *,
    max_length: int | None = None,
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

    Every signature also returns `model_id` string [B], the SHA-256 of the vocabulary and the weights. States belong to one
    model: a client that keeps them compares the id in each answer with that of `start`.

    **A model with an encoder**, such as one for translation, has no initial states of its own. **encode** returns them, from
    what the model takes at once: `source` [B, T, ...] and its `length` int32 [B], a sequence padded to the longest row, or
    `context` [B, ...], a vector. Several inputs of one kind have their names in the model, and a length is then called
    `NAME_length`. `decode`, `prefill` and `sample` then require states. `serving_default` and `score` have the inputs of
    `encode` too, each row its own. `start` returns no states, but `encoder` string [B], JSON for clients that says what
    `encode` takes.

    **A model that is not of text** (`vocabulary=None`) has the signatures

    * `serving_default`: the model over whole sequences. `frames` float32 [B, T, ...] or `tokens` int32 [B, T], and the
      inputs of `encode` -> `output`, what the model gives for them. T is the model's own number of frames, or any number
      that the strides divide. A single input can be given as `{"instances": [[...], ...]}` over REST. Rows of other
      lengths belong in other requests, as with the model itself.
    * `decode`: one step: `frame` [B, ...] or `token` [B], and the states -> `output` and the new states. A model with
      strides reads several frames in a step, [B, frames, ...]. A model that answers after the last frame gives the
      answer so far. `delays` in the report says after how many steps an output is known; the values before mean nothing.
    * `prefill`: 1 to 64 steps, `frames` [B, 64, ...] or `tokens` [B, 64], `length` int32 [B] and the states -> the outputs
      after the last step of each row, and the new states.
    * `start`: `row` int32 [B], of any value -> the initial states. They are also the defaults of the states. A model with
      an encoder has `encode` instead.

    Several inputs or outputs have their names in the model. Integers and truth values are int32, all other numbers float32.

    **Limits.** A request that is too large is refused before any of its work is done, with an error that names the input,
    the limit and what was received. Every signature takes at most 256 rows, or 4,096 without a vocabulary. A text has at
    most `max_length` tokens and, before it is split into tokens, 4 bytes for each of them at the character level, 32 at
    the word level; a sequence of any length has at most `max_length` steps, and a source as many frames. All rows of a
    request together have at most 32 times as many, or 320,000 if that is more, where each row counts as much as the
    longest. So a batch of 32 rows, as `batching_parameters.txt` allows, is never refused because of the number of its
    rows.

    A server that batches runs the requests of several clients together. The rows do not affect each other's answers,
    but an invalid row fails the whole batch, and every client in it receives the error message.

    The version contains warm-up requests. `model.config` and `batching_parameters.txt` are written next to it, for a
    server that has the parent of the model's directory mounted as `/models`. Existing files are kept.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`; without a
            vocabulary, any inputs `(batch, time, ...)` -> outputs. A model in half or mixed precision is copied into
            float32 first.
        vocabulary: its vocabulary; None for a model that is not of text.
        path: the model's directory, such as "serving/shakespeare", in which the next version is written; or the
            directory of a version, such as "serving/shakespeare/1", which must not exist.
        max_length: the largest number of tokens in a prompt and its continuation together, or in a text to score; without
            a vocabulary, of steps in a sequence. Longer requests are refused. None gives 10,000; without a vocabulary and
            an encoder 1,000,000, one minute of 16 kHz audio read sample by sample.

    Returns:
        The report of the verification, which `assets.extra/report.json` also holds, and the `path` of the version.

    Raises:
        ExportError: `path` exists or cannot be written, a weight is not finite, or the outputs of the file differ from
            the model's. Nothing is left behind, except that the version is published if only the files next to it
            cannot be written.
        ValueError: `vocabulary` is not the model's or has more than 524,288 tokens or 16 MiB, the model cannot be
            exported, or an argument is out of range.

    Example:
        >>> import tempfile, keras_seq as ks
        >>> vocabulary = ks.Vocabulary.from_text("to be or not to be")
        >>> model = ks.language_model(len(vocabulary), units=[8], embedding_dim=4)
        >>> report = export_saved_model(model, vocabulary, tempfile.mkdtemp() + "/1")
        >>> sorted(report["signatures"])
        ['decode', 'prefill', 'sample', 'score', 'serving_default', 'start']
        >>> sensor = keras.Sequential([keras.Input((None, 3)), ks.GRU(4, return_sequences=True)])
        >>> report = export_saved_model(sensor, None, tempfile.mkdtemp() + "/1")
        >>> sorted(report["signatures"])
        ['decode', 'prefill', 'serving_default', 'start']
    """
    if max_length is not None:
        require.integer("max_length", max_length, at_least=1, at_most=2**31 - 1)
    is_vocabulary = vocabulary is None or isinstance(vocabulary, Vocabulary)
    require.that(is_vocabulary, "vocabulary", "a Vocabulary, or None for a model that is not of text", vocabulary)
    require_exportable(vocabulary)
    exported, step, _ = float32_step(model, vocabulary)
    version, limits = next_version(pathlib.Path(path)), Limits.of(step, max_length)
    with publishing_export(version) as (partial,):
        (partial / "assets.extra").mkdir(parents=True)
        if vocabulary is None:
            comparisons = _write_series(model, exported, step, partial, limits.max_length)
        else:
            comparisons = _write_text(model, exported, step, vocabulary, partial, limits.max_length)
        report = SavedModelReport.of(partial, step, vocabulary, comparisons).to_dict()
        content = json.dumps(report, indent=2) + "\n"
        (partial / "assets.extra" / "report.json").write_text(content, encoding="utf-8")
    try:
        write_configuration(version.absolute().parent)
    except ExportError as error:
        raise ExportError(f"{version} is published, but {error}") from error
    return {**report, "path": os.fspath(version)}


def _write_text(
    model: keras.Model,
    exported: keras.Model,
    step: GraphStep,
    vocabulary: Vocabulary,
    directory: pathlib.Path,
    max_length: int,
) -> dict[str, dict[str, float]]:
    """Writes the signatures and the warm-up requests of a model of text; returns how they compare with the model."""
    write_signatures(step, vocabulary, directory, max_length)
    write_warm_up(directory / "assets.extra", text_warm_up(step, vocabulary.start_id, max_length))
    return verify(model, exported, step, vocabulary, directory, max_length)


def _write_series(
    model: keras.Model, exported: keras.Model, step: GraphStep, directory: pathlib.Path, max_length: int
) -> dict[str, dict[str, float]]:
    """Does the same for a model that is not of text."""
    write_series_signatures(exported, step, directory, max_length)
    write_warm_up(directory / "assets.extra", series_warm_up(step))
    return verify_series(model, exported, step, directory)
