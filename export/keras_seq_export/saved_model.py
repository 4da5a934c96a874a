"""A trained model as a SavedModel for TensorFlow Serving: strings in, strings out, and a decoder with explicit state.

`serving_default` writes texts: the whole token loop runs in the graph, each row with its own settings and its own random
stream. `score` tells how likely texts are. `prefill`, `decode` and `sample` are steps of the model with the states as
inputs and outputs, for clients that write token by token; `start` tells these the vocabulary and the zero states. Nothing is
kept between two requests, since a server shares one model among all its clients.
"""

import inspect
import itertools
import json
import os
import pathlib
import platform
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_seq import __version__, graph_sampling
from keras_seq.reading import Step
from keras_seq.sampling import LARGEST_TEMPERATURE, SamplingSettings, log_softmax, logit_bias
from keras_seq.scoring import score
from keras_seq.text import KerasStep
from keras_seq.threefry import uniform
from keras_seq.vocabulary import WORD_PATTERN, Vocabulary
from keras_seq_export.cpp_session import Request, SessionError, run_in_cpp_session
from keras_seq_export.graph_step import (
    Endpoint,
    GraphStep,
    decode_endpoint,
    named_states,
    prefill_endpoint,
    sample_endpoint,
)
from keras_seq_export.serving_files import next_version, write_configuration, write_warm_up
from keras_seq_export.signatures import (
    DECODE,
    GENERATE,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOGITS,
    NEXT_TOKEN,
    PREFILL,
    PREFILL_STEPS,
    SAMPLE,
    SCORE,
    SETTINGS,
    START,
    TEXT,
    TOKEN,
    TOKENS,
    UNIFORM,
    VOCABULARY_BYTES,
    is_state,
    state_name,
)
from keras_seq_export.verify import TOLERANCE, ExportError, compare, possible_draws, publishing, reference_outputs

_DECODED_TOKENS = 256  # tokens that the file's decoder is compared on
_WRITTEN_TOKENS = 64  # tokens of each text that is compared
_DRAWN_ROWS = 64  # draws at once that are compared
_DRAW = SamplingSettings(temperature=0.8, top_k=40, top_p=0.95, min_p=0.01)


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

    A prompt's characters outside the vocabulary are an error at the character level (in a server that batches, for the
    whole batch) and `<unk>` at the word level.

    Signature `score`: `text` string [B] -> `log_probability` float32 [B], in nats, of the whole text after `<s>`; `length`
    int32 [B], its number of tokens; `token_ids` int32 [B, T] and `log_probabilities` float32 [B, T] token by token, filled
    up with `<pad>` and 0.

    Signature `decode`: `token` int32 [B] and `state_0`, `state_1`, ... float32 [B, units], zeros if they are left out, as at the
    start of a text -> `logits` float32 [B, V] and the new states. The first token of a text is `<s>`. Signature `prefill`:
    `tokens` int32 [B, 64], `length` int32 [B], of which 1 to 64 are read, and the states -> the logits after each row's last
    token, and the new states. Signature `sample`: `token`, `uniform` float32 [B] in [0, 1), `temperature`, `top_k`, `top_p`,
    `min_p` (all off if they are left out) and the states -> `next_token` int32 [B], `log_probability` float32 [B], and the
    new states. Signature `start`: `token` int32 [B], whatever it is -> `vocabulary_bytes` string [B],
    the file `vocab.txt`, and the zero states.

    Args:
        model: a causal recurrent model: token ids `(batch, time)` -> logits `(batch, time, vocabulary)`.
        vocabulary: its vocabulary.
        path: the directory of the model, such as "serving/shakespeare", of which the next version is written; or that of a
            version, "serving/shakespeare/1", which must not exist.
        max_length: tokens that a prompt and its continuation, or a text to score, may have; a request for more is refused.

    Returns:
        The report of what was checked, which is also in `assets.extra/report.json`, and with it the `path` written.

    Beside the version are `model.config` and `batching_parameters.txt` for TensorFlow Serving, in it warm-up requests.

    Raises:
        ExportError: `path` exists, or the file does not give what the model gives; nothing is left behind.
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
    step = GraphStep(model, vocabulary)
    version = next_version(pathlib.Path(path))
    with publishing(version) as (partial,):
        _write(step, vocabulary, partial, max_length)
        extra = partial / "assets.extra"
        extra.mkdir()
        write_warm_up(extra, _warm_up(vocabulary, max_length, step.units))
        report = _verify(model, vocabulary, partial, step.units, max_length)
        (extra / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    try:
        write_configuration(version.absolute().parent)
    except OSError as error:
        raise ExportError(
            f"{version} is published, but {error.filename} cannot be written: {error.strerror}"
        ) from error
    return {**report, "path": os.fspath(version)}


def _warm_up(vocabulary: Vocabulary, max_length: int, units: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """Returns a small request of each signature, for one row, with all inputs."""
    token, text = np.array([vocabulary.start_id], np.int32), Wanted("", min(8, max_length), 0, SamplingSettings())
    states = {state_name(index): np.zeros((1, size), np.float32) for index, size in enumerate(units)}
    drawing = {name: np.array([getattr(text.settings, name)], dtype) for name, dtype in SETTINGS.items()}
    return {
        GENERATE: generate_inputs([text]),
        SCORE: {TEXT: np.array([b""], object)},
        DECODE: {TOKEN: token, **states},
        PREFILL: {TOKENS: np.tile(token, (1, PREFILL_STEPS)), LENGTH: np.array([PREFILL_STEPS], np.int32), **states},
        SAMPLE: {TOKEN: token, UNIFORM: np.array([0.5], np.float32), **drawing, **states},
        START: {TOKEN: token},
    }


def _write(step: GraphStep, vocabulary: Vocabulary, directory: pathlib.Path, max_length: int) -> None:
    """Saves the signatures. Only what they use is tracked, so that the weights are stored once."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary.save(pathlib.Path(folder, "vocab.txt"))
        tokenizer = _GraphTokenizer(vocabulary, os.path.join(folder, "vocab.txt"))
        archive = keras.export.ExportArchive()
        for table in tokenizer.tables:
            archive.track(table)
        archive.add_endpoint(GENERATE, *_generate_endpoint(step, tokenizer, vocabulary, max_length))
        archive.add_endpoint(SCORE, *_score_endpoint(step, tokenizer, vocabulary, max_length))
        added = logit_bias(vocabulary, SamplingSettings())
        for name, endpoint in (
            (DECODE, decode_endpoint(step, batch=None)),
            (PREFILL, prefill_endpoint(step, batch=None)),
            (SAMPLE, sample_endpoint(step, added, batch=None)),
        ):
            archive.add_endpoint(name, *_for_clients(endpoint, len(vocabulary)))
        archive.add_endpoint(START, *_start_endpoint(step, vocabulary))
        archive.write_out(os.fspath(directory), verbose=False)


def _start_endpoint(step: GraphStep, vocabulary: Vocabulary) -> Endpoint:
    """Returns the signature that tells clients what they need before the first step; its input says how many rows."""
    content = vocabulary.to_bytes()

    def start(token: tf.Tensor) -> dict[str, tf.Tensor]:
        states = step.initial_states(tf.shape(token)[0])
        return {VOCABULARY_BYTES: tf.fill(tf.shape(token), content), **named_states(states)}

    return start, [tf.TensorSpec([None], tf.int32, TOKEN)]


def _for_clients(endpoint: Endpoint, tokens: int) -> Endpoint:
    """Returns the same signature with checks and with defaults: states of zeros, and a draw with all filters off.

    A default has one row, and serves as many as the first input has.

    Args:
        endpoint: `decode`, `prefill` or `sample`.
        tokens: how many there are in the vocabulary.
    """
    function, specs = endpoint
    off = {name: getattr(SamplingSettings(), name) for name in SETTINGS}

    def default(spec: tf.TensorSpec) -> Any:
        if is_state(spec.name):
            return tf.zeros([1, *spec.shape[1:]])
        return tf.constant([off[spec.name]], spec.dtype) if spec.name in off else inspect.Parameter.empty

    defaults = [default(spec) for spec in specs]

    def signature(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(inputs[0])[0]
        filled = {
            spec.name: _in_rows(spec.name, value, rows, specs[0].name, may_be_one=given is not inspect.Parameter.empty)
            for spec, value, given in zip(specs, inputs, defaults, strict=True)
        }
        with tf.control_dependencies(list(_step_checks(filled, tokens))):
            # The identity waits for the checks.
            return function(*map(tf.identity, filled.values()))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # What TensorFlow reads the names and the defaults of a signature from.
    signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(spec.name, kind, default=given) for spec, given in zip(specs, defaults, strict=True)]
    )
    return signature, specs


def _in_rows(name: str, value: tf.Tensor, rows: tf.Tensor, first: str, may_be_one: bool) -> tf.Tensor:
    """Returns an input with as many rows as the first input; one row serves all where that may be."""
    given = tf.shape(value)[0]
    expected = f"`{name}` must have as many rows as `{first}`{', or one' if may_be_one else ''}."
    fits = tf.equal(given, rows) | (tf.equal(given, 1) & may_be_one)
    with tf.control_dependencies([_require(fits, expected, given)]):
        return tf.broadcast_to(value, tf.concat([[rows], tf.shape(value)[1:]], 0))


def _step_checks(inputs: dict[str, tf.Tensor], tokens: int) -> Iterator[tf.Operation]:
    """Yields the checks of what a step reads and of its draw."""
    if TOKEN in inputs:
        token = inputs[TOKEN]
        yield _require((token >= 0) & (token < tokens), f"`{TOKEN}` must be from 0 to {tokens - 1}.", token)
    if LENGTH in inputs:
        length, read = inputs[LENGTH], inputs[TOKENS]
        yield _require(
            (length >= 1) & (length <= PREFILL_STEPS), f"`{LENGTH}` must be from 1 to {PREFILL_STEPS}.", length
        )
        read = tf.where(tf.sequence_mask(length, tf.shape(read)[1]), read, 0)
        yield _require((read >= 0) & (read < tokens), f"`{TOKENS}` must be from 0 to {tokens - 1}.", read)
    if UNIFORM in inputs:
        number = inputs[UNIFORM]
        yield _require((number >= 0) & (number < 1), f"`{UNIFORM}` must be at least 0 and below 1.", number)
        yield from _drawing_checks(*(inputs[name] for name in SETTINGS))


def _drawing_checks(
    temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, min_p: tf.Tensor
) -> Iterator[tf.Operation]:
    yield _require(
        (temperature >= 0) & (temperature <= LARGEST_TEMPERATURE), "`temperature` must be from 0 to 1e6.", temperature
    )
    yield _require(top_k >= 0, "`top_k` must be an integer of at least 0.", top_k)
    yield _require((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1.", top_p)
    yield _require((min_p >= 0) & (min_p <= 1), "`min_p` must be in 0 to 1.", min_p)


def _default_max_tokens(max_length: int) -> int:
    """Returns the tokens that a request without `max_tokens` gets at most: 200, or half of a limit below 400."""
    return min(200, (max_length + 1) // 2)


class _GraphTokenizer:
    """`Vocabulary.encode` and `decode` in a graph; the vocabulary file becomes an asset of the SavedModel."""

    def __init__(self, vocabulary: Vocabulary, file: str):
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        unknown = -1 if vocabulary.unk_id is None else vocabulary.unk_id
        self._level = vocabulary.level
        self._id_of_line = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, tf.string, line, tf.int64, number), default_value=unknown
        )
        self._line_of_id = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, tf.int64, number, tf.string, line), default_value=""
        )
        self.tables = [self._id_of_line, self._line_of_id]

    def encode(self, text: tf.Tensor, name: str) -> tf.RaggedTensor:
        """Texts `(batch,)` -> int32 ids `(batch, None)`; `name` is that of the input, for the error."""
        tokens = self._split(text)
        pieces = tokens.flat_values
        ids = self._id_of_line.lookup(_escape(pieces))
        foreign = tf.unique(tf.boolean_mask(pieces, ids < 0)).y
        check = _require(
            tf.equal(tf.size(foreign), 0), f"`{name}` must hold only characters of the vocabulary.", foreign
        )
        with tf.control_dependencies([check]):
            return tokens.with_flat_values(tf.cast(ids, tf.int32))

    def decode(self, ids: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """The first `length` `(batch,)` of the ids `(batch, time)` -> texts `(batch,)`."""
        pieces = _unescape(self._line_of_id.lookup(tf.cast(ids, tf.int64)))
        return tf.strings.reduce_join(tf.where(tf.sequence_mask(length, tf.shape(ids)[1]), pieces, ""), axis=1)

    def _split(self, text: tf.Tensor) -> tf.RaggedTensor:
        # What is not UTF-8 is an error for the client, not a text of U+FFFD.
        if self._level == "char":
            return tf.strings.unicode_split(text, "UTF-8", errors="strict")
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="strict")
        # A graph can replace all matches, but not find them. The byte FF is in no UTF-8 text: here it ends each token.
        tokens = tf.strings.split(tf.strings.regex_replace(text, WORD_PATTERN, b"\\0\xff"), sep=b"\xff")
        return tf.ragged.boolean_mask(tokens, tf.strings.length(tokens) > 0)


def _escape(tokens: tf.Tensor) -> tf.Tensor:
    """Tokens as the lines of the vocabulary file."""
    for pattern, line in ((r"\\", rb"\\x5c"), (r"\n", rb"\\n"), (r"\r", rb"\\r")):
        tokens = tf.strings.regex_replace(tokens, pattern, line)
    return tokens


def _unescape(lines: tf.Tensor) -> tf.Tensor:
    """Lines of the vocabulary file as tokens."""
    for pattern, token in ((r"\\n", b"\n"), (r"\\r", b"\r"), (r"\\x5c", rb"\\")):
        lines = tf.strings.regex_replace(lines, pattern, token)
    return lines


def _require(condition: tf.Tensor, expected: str, received: tf.Tensor) -> tf.Operation:
    """An operation that makes the request an error unless all of `condition` is true."""
    return tf.debugging.Assert(tf.reduce_all(condition), [f"{expected} Received:", received], summarize=10)


def _generate_endpoint(
    step: GraphStep, tokenizer: _GraphTokenizer, vocabulary: Vocabulary, max_length: int
) -> tuple[Any, list[tf.TensorSpec]]:
    """The function and the input signature of `serving_default`."""
    added = logit_bias(vocabulary, SamplingSettings())

    # Defaults that are tensors end up in SignatureDef.defaults, and in the graph for whoever feeds it directly.
    def serving_default(
        prompt: tf.Tensor,
        max_tokens: tf.Tensor = tf.constant([_default_max_tokens(max_length)], tf.int32),  # noqa: B008
        temperature: tf.Tensor = tf.constant([1.0], tf.float32),  # noqa: B008
        top_k: tf.Tensor = tf.constant([0], tf.int32),  # noqa: B008
        top_p: tf.Tensor = tf.constant([1.0], tf.float32),  # noqa: B008
        min_p: tf.Tensor = tf.constant([0.0], tf.float32),  # noqa: B008
        seed: tf.Tensor = tf.constant([0], tf.int64),  # noqa: B008
    ) -> dict[str, tf.Tensor]:
        batch = tf.shape(prompt)[0]
        options = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        max_tokens, temperature, top_k, top_p, min_p, seed = (
            _in_rows(name, value, batch, "prompt", may_be_one=True) for name, value in {**options, "seed": seed}.items()
        )
        prompt_ids = tokenizer.encode(prompt, "prompt")
        prompt_length = tf.cast(prompt_ids.row_lengths(), tf.int32)
        checks = [
            _require(batch >= 1, "`prompt` must have at least one row.", batch),
            _require(max_tokens >= 1, "`max_tokens` must be a positive integer.", max_tokens),
            _require(
                max_tokens <= max_length - prompt_length,
                f"`prompt` and `max_tokens` must be at most {max_length} tokens together.",
                max_tokens,
            ),
            *_drawing_checks(temperature, top_k, top_p, min_p),
        ]
        with tf.control_dependencies(checks):
            inputs = tf.concat([tf.fill([batch, 1], vocabulary.start_id), prompt_ids.to_tensor()], axis=1)

        def draw(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
            number = graph_sampling.uniform(seed, tf.maximum(position, 0))
            return graph_sampling.next_token(logits, number, temperature, top_k, top_p, min_p, added)

        # All rows read their prompts from the first step on; each begins to write when its own has ended, whatever its
        # batch-mates do. After its end a row goes through the motions, and nothing of that is kept.
        def one_step(time, token, writing, ended, length, log_probability, drawn, *states):
            logits, new_states = step(token, states)
            position = time - prompt_length
            draws = writing & (position >= 0)
            wrong = draws & ~graph_sampling.are_numbers(logits)
            check = _require(~wrong, "The model's logits must be numbers at every token.", position[wrong])
            with tf.control_dependencies([check]):
                logits = tf.identity(logits)
            # While all rows are reading, the draw with its sorts is left out.
            choice = tf.cond(tf.reduce_any(draws), lambda: draw(logits, position), lambda: tf.zeros_like(token))
            log_probability += tf.where(draws, graph_sampling.log_probability(logits, choice), 0.0)
            ends = draws & tf.equal(choice, vocabulary.eos_id)
            length += tf.cast(draws & ~ends, tf.int32)
            following = inputs[:, tf.minimum(time + 1, tf.shape(inputs)[1] - 1)]
            return (
                time + 1,
                tf.where(position < 0, following, choice),
                writing & ~ends & (length < max_tokens),
                ended | ends,
                length,
                log_probability,
                drawn.write(time, choice),
                *new_states,
            )

        nothing = tf.zeros([batch], tf.int32)
        _, _, _, ended, length, log_probability, drawn, *_ = tf.while_loop(
            lambda time, token, writing, *_: tf.reduce_any(writing),
            one_step,
            (
                tf.constant(0),
                inputs[:, 0],
                tf.ones([batch], tf.bool),
                tf.zeros([batch], tf.bool),
                nothing,
                tf.zeros([batch]),
                tf.TensorArray(tf.int32, size=0, dynamic_size=True, element_shape=[None]),
                *step.initial_states(batch),
            ),
        )
        # Token i of a row was drawn at the time prompt_length + i.
        places = prompt_length[:, None] + tf.range(tf.reduce_max(length))[None, :]
        mask = tf.sequence_mask(length, tf.shape(places)[1])
        by_row = tf.transpose(drawn.stack())
        token_ids = tf.where(mask, tf.gather(by_row, tf.where(mask, places, 0), batch_dims=1), vocabulary.pad_id)
        return {
            "text": tokenizer.decode(token_ids, length),
            "token_ids": token_ids,
            "length": length,
            "log_probability": log_probability,
            "finish_reason": tf.where(ended, "eos", "length"),
        }

    inputs = {"prompt": "string", "max_tokens": "int32", **SETTINGS, "seed": "int64"}
    return serving_default, [tf.TensorSpec([None], dtype, name) for name, dtype in inputs.items()]


def _score_endpoint(
    step: GraphStep, tokenizer: _GraphTokenizer, vocabulary: Vocabulary, max_length: int
) -> tuple[Any, list[tf.TensorSpec]]:
    """The function and the input signature of `score`."""

    def score(text: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = tokenizer.encode(text, TEXT)
        length = tf.cast(ids.row_lengths(), tf.int32)
        with tf.control_dependencies(
            [_require(length <= max_length, f"`text` must be at most {max_length} tokens.", length)]
        ):
            token_ids = ids.to_tensor(vocabulary.pad_id)
        batch, longest = tf.shape(token_ids)[0], tf.shape(token_ids)[1]
        # Each token is read after it was scored; one step more than needed, so that there is one for an empty text too.
        padded = tf.pad(token_ids, [[0, 0], [0, 1]], constant_values=vocabulary.pad_id)

        def one_step(time, token, chances, *states):
            logits, new_states = step(token, states)
            target = padded[:, time]
            return time + 1, target, chances.write(time, graph_sampling.log_probability(logits, target)), *new_states

        _, _, chances, *_ = tf.while_loop(
            lambda time, *_: time <= longest,
            one_step,
            (
                tf.constant(0),
                tf.fill([batch], vocabulary.start_id),
                tf.TensorArray(tf.float32, size=longest + 1, element_shape=[None]),
                *step.initial_states(batch),
            ),
        )
        by_row = tf.transpose(chances.stack())[:, :longest]
        log_probabilities = tf.where(tf.sequence_mask(length, longest), by_row, 0.0)
        return {
            LOG_PROBABILITY: tf.reduce_sum(log_probabilities, axis=1),
            "length": length,
            "token_ids": token_ids,
            LOG_PROBABILITIES: log_probabilities,
        }

    return score, [tf.TensorSpec([None], tf.string, TEXT)]


class Wanted(NamedTuple):
    """A text to be written, by `serving_default` and by another runtime."""

    prompt: str
    max_tokens: int
    seed: int
    settings: SamplingSettings


def _verify(
    model: keras.Model, vocabulary: Vocabulary, directory: pathlib.Path, units: Sequence[int], max_length: int
) -> dict[str, Any]:
    """Proves the file in the C++ session; returns the report."""
    random = np.random.default_rng(0)
    tokens = random.integers(vocabulary.reserved - 1, len(vocabulary), _DECODED_TOKENS).astype(np.int32)
    tokens[0] = vocabulary.start_id
    texts = list(_texts(vocabulary, random, max_length))
    states = {state_name(index): np.zeros((1, size), np.float32) for index, size in enumerate(units)}
    prompts = np.array([text.prompt for text in texts], object)
    lengths = np.array([1, PREFILL_STEPS, 7], np.int32)
    rows = np.tile(tokens[:PREFILL_STEPS], (len(lengths), 1))
    drawing = {name: np.array([getattr(_DRAW, name)], dtype) for name, dtype in SETTINGS.items()}
    numbers = uniform(3, np.arange(_DRAWN_ROWS))
    requests = [
        Request(DECODE, {TOKEN: tokens[:, None], **states}, scan=TOKEN),
        Request(PREFILL, {TOKENS: rows, LENGTH: lengths}),
        Request(SAMPLE, {TOKEN: tokens[:, None], UNIFORM: numbers[:1], **drawing, **states}, scan=TOKEN),
        Request(SAMPLE, {TOKEN: np.full(_DRAWN_ROWS, vocabulary.start_id, np.int32), UNIFORM: numbers}),
        Request(GENERATE, generate_inputs(texts)),
        Request(SCORE, {TEXT: prompts}),
        Request(START, {TOKEN: tokens[:2]}),
        *(Request(signature, inputs) for signature, inputs in _warm_up(vocabulary, max_length, units).items()),
    ]
    try:
        decoded, prefilled, sampled, sampled_rows, written, scored, told, *_ = run_in_cpp_session(directory, requests)
    except SessionError as error:
        reason = str(error).partition("\n")[0][:300]
        raise ExportError(f"the SavedModel does not run in TensorFlow's C++ session: {reason}") from error
    (expected,) = reference_outputs(model, [tokens])
    difference = compare(DECODE, expected, decoded[LOGITS][:, 0])
    prefill_difference = compare(PREFILL, expected[lengths - 1], prefilled[LOGITS])
    added = logit_bias(vocabulary, SamplingSettings())
    draws = [
        *zip(expected, itertools.repeat(numbers[0]), itertools.repeat(_DRAW), _draws(sampled, 0), strict=False),
        *zip(
            itertools.repeat(expected[0]),
            numbers,
            itertools.repeat(SamplingSettings()),
            _draws(sampled_rows),
            strict=False,
        ),
    ]
    draw_near_ties = sum(
        _compare_draw(logits, float(number), settings, added, drawn) for logits, number, settings, drawn in draws
    )
    near_ties = 0
    # The session computes on the CPU; an accelerator's shorter products would give other logits and other texts.
    with tf.device("/CPU:0"):
        step = KerasStep(model)
        for row, text in enumerate(texts):
            answer = {name: values[row] for name, values in written.items()}
            near_ties += _compare_text(step, vocabulary, text, answer)
        score_difference = max(
            _compare_score(step, vocabulary, prompt, {name: values[row] for name, values in scored.items()})
            for row, prompt in enumerate(prompts)
        )
    if told[VOCABULARY_BYTES].tolist() != 2 * [vocabulary.to_bytes()]:
        raise ExportError(f"{START} does not tell the vocabulary")
    return {
        "format": "SavedModel",
        "signatures": {
            GENERATE: {"texts_compared": len(texts), "near_ties": near_ties},
            SCORE: {"texts_compared": len(prompts), "largest_difference": score_difference},
            DECODE: {"tokens_compared": len(tokens), "largest_difference": difference},
            PREFILL: {"rows_compared": len(lengths), "largest_difference": prefill_difference},
            START: {"rows_compared": 2},
            SAMPLE: {"draws_compared": len(draws), "near_ties": draw_near_ties},
        },
        "vocabulary": {"level": vocabulary.level, "size": len(vocabulary), "sha256": vocabulary.sha256},
        "bytes": {
            file.relative_to(directory).as_posix(): file.stat().st_size
            for file in sorted(directory.rglob("*"))
            if file.is_file()
        },
        "versions": {
            "keras_seq": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }


def _draws(answer: dict[str, Any], column: int | None = None) -> Iterator[tuple[int, float]]:
    """Yields the tokens that `sample` drew, and their log-probabilities; of a scan, those of one row."""
    drawn, chances = answer[NEXT_TOKEN], answer[LOG_PROBABILITY]
    if column is not None:
        drawn, chances = drawn[:, column], chances[:, column]
    yield from zip(drawn.tolist(), chances.tolist(), strict=True)


def _compare_draw(
    logits: np.ndarray, number: float, settings: SamplingSettings, added: np.ndarray, answer: tuple[int, float]
) -> bool:
    """Compares a draw of `sample` with the host's; returns whether it was so near to an edge that rounding decides.

    Raises:
        ExportError: the host would not draw this token, or its log-probability is another.
    """
    drawn, log_probability = answer
    possible = possible_draws(logits, number, settings, added)
    if drawn not in possible:
        raise ExportError(
            f"{SAMPLE} draws token {drawn}, the host one of {sorted(possible)} (uniform={number}, {settings})"
        )
    compare(f"{SAMPLE}, {LOG_PROBABILITY}", log_softmax(logits)[[drawn]], np.array([log_probability]))
    return len(possible) > 1


def _texts(vocabulary: Vocabulary, random: np.random.Generator, max_length: int) -> Iterator[Wanted]:
    """One text for each kind of draw, all but the first after a random prompt."""
    tokens = vocabulary.tokens[vocabulary.reserved :]
    max_tokens = min(_WRITTEN_TOKENS, _default_max_tokens(max_length))
    for seed, settings in enumerate(
        (
            SamplingSettings(),
            SamplingSettings(temperature=0.8),
            SamplingSettings(top_k=40, top_p=0.95, min_p=0.02),
            SamplingSettings(temperature=0),
        )
    ):
        length = min(20 * seed, max_length - max_tokens) if tokens else 0
        prompt = "".join(tokens[index] for index in random.integers(0, max(len(tokens), 1), length))
        yield Wanted(prompt, max_tokens, (-1) ** seed * (seed << 33), settings)


def generate_inputs(texts: Sequence[Wanted]) -> dict[str, np.ndarray]:
    """Returns the inputs of `serving_default` that ask for all the texts at once."""
    return {
        "prompt": np.array([text.prompt for text in texts], object),
        "max_tokens": np.array([text.max_tokens for text in texts], np.int32),
        **{name: np.array([getattr(text.settings, name) for text in texts], dtype) for name, dtype in SETTINGS.items()},
        "seed": np.array([text.seed for text in texts], np.int64),
    }


def _compare_text(step: Step, vocabulary: Vocabulary, text: Wanted, answer: dict[str, Any]) -> int:
    """Leads Keras along the tokens that the file drew, and compares all that the file says of them.

    Returns:
        How many draws were so near to an edge between two tokens that rounding may decide them.

    Raises:
        ExportError: the model would not write this text, or an output does not belong to it.
    """

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise ExportError(
                f"{GENERATE} must write what the model writes: {what}. Received: {answer} (prompt={text.prompt!r}, "
                f"seed={text.seed}, {text.settings})"
            )

    ids = answer["token_ids"][: answer["length"]].tolist()
    ended = answer["finish_reason"] == b"eos"
    log_probability, near_ties, added = 0.0, 0, logit_bias(vocabulary, text.settings)
    context = [vocabulary.start_id, *vocabulary.encode(text.prompt).tolist()]
    drawn = [*ids, vocabulary.eos_id] if ended else ids
    after_context = itertools.islice(step.read([*context, *drawn[:-1]], step.initial_states()), len(context) - 1, None)
    for position, (token, (logits, _)) in enumerate(zip(drawn, after_context, strict=True)):
        possible = possible_draws(logits, float(uniform(text.seed, position)), text.settings, added)
        require(token in possible, f"token {position} must be one of {sorted(possible)}")
        near_ties += len(possible) > 1
        log_probability += log_softmax(logits)[token]
    require(answer["text"] == vocabulary.decode(ids).encode(), "the text must be that of the tokens")
    require(ended or len(ids) == text.max_tokens, "a text that has not ended must have `max_tokens`")
    difference = abs(float(answer[LOG_PROBABILITY]) - log_probability)
    require(difference <= TOLERANCE * text.max_tokens, f"log_probability must be {log_probability:.6f}")
    return near_ties


def _compare_score(step: Step, vocabulary: Vocabulary, text: str, answer: dict[str, Any]) -> float:
    """Returns the largest difference of a token's log-probability between the file and Keras."""
    expected = score(step, vocabulary, text)
    length = answer["length"]
    if not np.array_equal(answer["token_ids"][:length], expected.token_ids):
        raise ExportError(f"{SCORE} must read the tokens of {text!r}. Received: {answer}")
    whole = np.array(expected.log_probability, np.float32)
    compare(SCORE, whole, np.asarray(answer[LOG_PROBABILITY]), TOLERANCE * max(length, 1))
    if not length:
        return 0.0
    return compare(SCORE, expected.log_probabilities, answer[LOG_PROBABILITIES][:length])
