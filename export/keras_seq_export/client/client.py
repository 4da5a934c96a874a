"""A client of TensorFlow Serving over REST or gRPC.

The server generates whole texts, or one token per request while the client keeps the states. REST needs neither
TensorFlow nor Keras; gRPC needs `pip install tensorflow-serving-api`.
"""

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ModelError
from keras_seq.generation.decoder_step import Step, token_ids
from keras_seq.generation.generation import Generation
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.score import Score
from keras_seq.generation.states import checked_arrays
from keras_seq.generation.text import Options, Text
from keras_seq.generation.threefry import seed_words
from keras_seq_export.client.answers import START_SIZE, Output, checked, require_range, size_of
from keras_seq_export.client.text_start import TextStart
from keras_seq_export.client.transports import RefusedError, transport
from keras_seq_export.errors import ServingError
from keras_seq_export.requests import GenerateRequest, generate_inputs, sampling_inputs, strings
from keras_seq_export.signatures import (
    DECODE,
    ENCODE,
    FINISH_REASON,
    GENERATE,
    GENERATE_INPUTS,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOGITS,
    MAX_BATCH_SIZE,
    MAX_TOKENS,
    MODEL_ID,
    NEXT_TOKEN,
    PREFILL,
    PREFILL_STEPS,
    PROMPT,
    SAMPLE,
    SCORE,
    START,
    TEXT,
    TOKEN,
    TOKEN_IDS,
    TOKENS,
    UNIFORM,
    state_name,
)

_NO_STATES = "the server keeps the states of a text that `write` returns; use `generate`, and the client keeps them"
_LONGEST_TIMEOUT = 86_400  # seconds: one day


class Client(Step):
    """A model on a TensorFlow Serving server.

    A client stays with the version it found, even after a newer one is published, because the states of one version are
    meaningless to another. When the server unloads that version, requests fail; create a new client to use the new
    version. So they do when the server has been replaced by one with another model, because each answer names its model.
    Give each thread a client of its own.

    A client is also a `keras_seq.generation.decoder_step.Step`, whose states stay on this side.

    Args:
        address: `http://HOST:8501` for REST or `grpc://HOST:8500` for gRPC.
        model: name of the model on the server.
        version: version of the model; None uses the newest available version.
        vocabulary: the vocabulary that the model must have; None accepts any.
        timeout: seconds to wait for an answer.

    Attributes:
        version: version of the model.
        vocabulary: the model's vocabulary.
        vocabulary_size: number of tokens in the vocabulary.

    Raises:
        ServingError: the server cannot be reached, does not have the model, or has it without a vocabulary or with
            another one. Every request raises it too where an answer is malformed, from another model, or larger than
            8 MiB and 32 bytes for each of its numbers; or the client was closed.
        ValueError: an argument is out of range.

    Example:
        client = Client("http://localhost:8501", "shakespeare")
        client.write("ROMEO:", max_tokens=100, temperature=0.8, seed=7)
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        vocabulary: Vocabulary | None = None,
        timeout: float = 30.0,
    ):
        is_timeout = require.is_number(timeout) and 0 < timeout <= _LONGEST_TIMEOUT
        require.that(is_timeout, "timeout", f"above 0 and at most {_LONGEST_TIMEOUT:,} seconds", timeout)
        is_version = version is None or (require.is_integer(version) and 0 <= version < 2**63)
        require.that(is_version, "version", "an integer from 0 to 2**63 - 1, or None", version)
        is_vocabulary = vocabulary is None or isinstance(vocabulary, Vocabulary)
        require.that(is_vocabulary, "vocabulary", "a Vocabulary or None", vocabulary)
        self._transport = transport(address, model, timeout)
        self._source, self._is_closed = f"{model} at {self._transport.address}", False
        try:
            self.version = self._transport.newest_version() if version is None else int(version)
            self._transport.version = self.version
            self._start(vocabulary)
        except Exception:
            self.close()
            raise

    def _start(self, vocabulary: Vocabulary | None) -> None:
        """Requests what a text starts with: the vocabulary, the default length, and the states or their encoder."""
        source = f"{self._source}, version {self.version},"
        try:
            start = TextStart.of(self._transport.predict(START, {TOKEN: np.zeros(1, np.int32)}, most=START_SIZE))
        except RefusedError as error:
            raise ServingError(
                f"{source} does not start a text, as an export with a vocabulary does, which `Client` needs: {error}"
            ) from error
        except ValueError as error:
            raise ServingError(
                f"{source} does not return its vocabulary as an export of keras_seq does: {str(error)[:1000]}"
            ) from error
        if vocabulary is not None and vocabulary.sha256 != start.vocabulary.sha256:
            raise ServingError(
                f"{source} has another vocabulary: SHA-256 {start.vocabulary.sha256}, not {vocabulary.sha256}"
            )
        self.vocabulary, self.vocabulary_size = start.vocabulary, len(start.vocabulary)
        self._default_max_tokens, self._encoder = start.max_tokens, start.encoder
        self._initial_states, self._model_id = start.states, start.model_id
        self._bias = logit_bias(self.vocabulary, SamplingSettings())

    def _predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, Output], tokens: int = 0
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature, after the checks that they are this model's and what they should be."""
        self._require_open()
        only = next(iter(outputs)) if len(outputs) == 1 else ""
        answer = self._transport.predict(signature, inputs, only, size_of(outputs, tokens))
        if self._model_id is not None and set(answer.get(MODEL_ID, np.array([None])).flat) != {self._model_id}:
            raise ServingError(
                f"{self._source} has another model now than when this client was created: create a new client and "
                "begin the text again, because states belong to one model"
            )
        with self._answer_of(signature):
            return checked(answer, outputs)

    def _require_open(self) -> None:
        if self._is_closed:
            raise ServingError(f"the client of {self._source} is closed: create a new one")

    @contextlib.contextmanager
    def _answer_of(self, signature: str) -> Iterator[None]:
        """Turns the errors of checks of an answer into a ServingError."""
        try:
            yield
        except ValueError as error:
            raise ServingError(f"{self._source}: the answer of {signature} is malformed: {error}") from error

    def _state_outputs(self, rows: int = 1) -> dict[str, Output]:
        return {name: Output("float32", (rows, units)) for name, (_, units) in self._state_shapes().items()}

    def write(self, prompts: str | list[str] | tuple[str, ...] = "", inputs: Any = None, **options: Any) -> Any:
        """Returns texts that the server generates as a whole: a `Text`, or a list of them for several prompts.

        Args:
            prompts: one prompt or several; up to 32 share a request.
            inputs: for a model with an encoder, what `encode` takes, with one row for each prompt or one for all: an
                array, or a tuple of them for several inputs.
            **options: `max_tokens` (default: the export's, usually 200), `temperature`, `top_k`, `top_p`, `min_p` (all
                off) and `seed` (default: a new one for each text). With several prompts, each option may be a list with
                one value for each prompt.

        Raises:
            ServingError: the server refuses the request or does not answer.
            TypeError: an option is unknown.
            ValueError: an option or `inputs` is out of range, or a prompt has characters that the vocabulary lacks.
        """
        known = [name for name in GENERATE_INPUTS if name != PROMPT]
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(
                f"`write` has no option `{unknown[0]}`; its options are {', '.join(known)}; `generate` has more"
            )
        rows: list[Any] = list(prompts) if isinstance(prompts, list | tuple) else [prompts]
        columns = {name: _column(name, value, len(rows)) for name, value in options.items()}
        requests = [
            self._request(prompt, **{name: column[row] for name, column in columns.items()})
            for row, prompt in enumerate(rows)
        ]
        given = self._at_once(inputs, len(rows))
        texts = [
            text
            for start in range(0, len(rows), MAX_BATCH_SIZE)
            for text in self._write_batch(requests[start : start + MAX_BATCH_SIZE], _rows_of(given, start))
        ]
        return texts if isinstance(prompts, list | tuple) else texts[0]

    def _request(
        self, prompt: str, max_tokens: int | None = None, seed: int | None = None, **settings: Any
    ) -> GenerateRequest:
        """Returns the request for one row, after checks that need no server."""
        self.vocabulary.encode(prompt, name=PROMPT)
        max_tokens = self._default_max_tokens if max_tokens is None else max_tokens
        require.integer(MAX_TOKENS, max_tokens, at_least=1, at_most=2**31 - 1)
        seed = secrets.randbits(63) if seed is None else seed
        seed_words(seed)
        return GenerateRequest(prompt, max_tokens, seed, self._with_int32_top_k(SamplingSettings(**settings)))

    def _at_once(self, inputs: Any, rows: int) -> dict[str, np.ndarray]:
        """Returns what the encoder takes, by name; nothing for a model without one."""
        if self._encoder is None:
            require.that(inputs is None, "inputs", "None, because the model has no encoder", type(inputs).__name__)
            return {}
        names = ", ".join(one.name for one in self._encoder.inputs)
        require.that(inputs is not None, "inputs", f"given, what the encoder takes: {names}", inputs)
        several = isinstance(inputs, tuple) and len(self._encoder.inputs) > 1
        return self._encoder.arrays(inputs if several else (inputs,), rows)

    def _write_batch(self, requests: Sequence[GenerateRequest], given: Mapping[str, np.ndarray]) -> Iterator[Text]:
        # Every input is given: REST has no defaults, and a server that batches requires one value per row.
        column = (len(requests),)
        outputs = {
            TEXT: Output("string", column),
            FINISH_REASON: Output("string", column),
            TOKEN_IDS: Output("int32", (*column, None)),
            LENGTH: Output("int32", column),
        }
        tokens = len(requests) * max(request.max_tokens for request in requests)
        answer = self._predict(GENERATE, {**generate_inputs(requests), **given}, outputs, tokens)
        with self._answer_of(GENERATE):
            require_range(LENGTH, answer[LENGTH], 0, answer[TOKEN_IDS].shape[1])
            require_range(TOKEN_IDS, answer[TOKEN_IDS], 0, self.vocabulary_size - 1)
            texts, reasons = ([one.decode() for one in answer[name]] for name in (TEXT, FINISH_REASON))
            for reason in reasons:
                require.one_of(FINISH_REASON, reason, ("eos", "length"))
        for text, ids, length, reason in zip(texts, answer[TOKEN_IDS], answer[LENGTH], reasons, strict=True):
            yield Text(text, ids[:length].tolist(), None, reason, _NO_STATES)

    def _with_int32_top_k(self, settings: SamplingSettings) -> SamplingSettings:
        """Returns equivalent settings whose `top_k` fits the server's int32."""
        return dataclasses.replace(settings, top_k=min(settings.top_k, self.vocabulary_size))

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over a continuation, token by token, with every option of `keras_seq.generate`.

        After a `ServingError` the iterator is exhausted. A new call with the same seed generates the same text from its
        start.
        """
        self._require_open()
        return Generation(self, self.vocabulary, prompt, **options)

    def score(self, text: str, inputs: Any = None) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does.

        Args:
            text: the text to score.
            inputs: for a model with an encoder, what `encode` takes; see `write`.

        Raises:
            ServingError: the server refuses the request or does not answer.
            ValueError: the text has characters that the vocabulary lacks, or `inputs` is out of range.
        """
        ids = self.vocabulary.encode(text)
        row = (1, len(ids))
        outputs = {TOKEN_IDS: Output("int32", row), LOG_PROBABILITIES: Output("float32", row)}
        answer = self._predict(SCORE, {TEXT: strings([text]), **self._at_once(inputs, 1)}, outputs)
        if not np.array_equal(answer[TOKEN_IDS][0], ids):
            raise ServingError(f"{self._source}: the answer of {SCORE} is malformed: it has the tokens of another text")
        return Score(answer[TOKEN_IDS][0], answer[LOG_PROBABILITIES][0].astype(np.float64))

    def encode(self, *values: Any) -> list[np.ndarray]:
        """Returns the states with which a text begins, each `(rows, units)` float32, as `keras_seq.encode` does.

        `generate` takes those of one row as its option `states`.

        Args:
            *values: an array for each input of the encoder in its order: a source `(rows, frames, ...)`, or a context
                `(rows, ...)`. The axis of rows may be left out.

        Raises:
            ModelError: the model has no encoder.
            ServingError: the server refuses the request or does not answer.
            ValueError: an array is missing, or has another shape or dtype.
        """
        if self._encoder is None:
            raise ModelError("the model has no encoder: its texts begin with the states of `initial_states`")
        given = self._encoder.arrays(values)
        parts = [_rows_of(given, start) for start in range(0, len(next(iter(given.values()))), MAX_BATCH_SIZE)]
        answers = [self._predict(ENCODE, part, self._state_outputs(len(next(iter(part.values()))))) for part in parts]
        return [np.concatenate([answer[name] for answer in answers]) for name in self._state_shapes()]

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape `(1, units)` of each state by name."""
        if self._encoder is not None:
            return {state_name(index): (1, units) for index, units in enumerate(self._encoder.units)}
        return {name: state.shape for name, state in self._initial_states.items()}

    def initial_states(self) -> dict[str, np.ndarray]:
        """Returns the initial states by name, each `(1, units)` float32, as the server reports them.

        Raises:
            ModelError: they depend on what `encode` takes.
        """
        if self._encoder is not None:
            raise ModelError(
                "`states` must be given, because the model begins with those that its encoder gives for "
                f"{', '.join(one.name for one in self._encoder.inputs)}; `Client.encode` returns them"
            )
        return dict(self._initial_states)

    def states_of(self, arrays: Any) -> dict[str, np.ndarray]:
        """Returns a caller's states by name."""
        shapes = self._state_shapes()
        return dict(zip(shapes, checked_arrays(arrays, list(shapes.values())), strict=True))

    def arrays_of(self, states: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Returns states as new float32 arrays, each `(1, units)`."""
        return [np.array(states[name], np.float32) for name in self._state_shapes()]

    def close(self) -> None:
        """Closes the connection for good; a `with Client(...) as client:` block closes it at its end."""
        self._is_closed = True
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, token: int, states: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states by name."""
        answer = self._predict(DECODE, {TOKEN: token_ids([token]), **states}, self._step_outputs())
        return answer.pop(LOGITS)[0], answer

    def _step_outputs(self) -> dict[str, Output]:
        return {LOGITS: Output("float32", (1, self.vocabulary_size)), **self._state_outputs()}

    def prefill(self, tokens: Sequence[int], states: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the logits `(vocabulary,)` and the states after the last token; a request reads up to 64 tokens."""
        ids = token_ids(tokens, "tokens")
        for start in range(0, len(ids), PREFILL_STEPS):
            piece = ids[start : start + PREFILL_STEPS]
            padded = np.zeros((1, PREFILL_STEPS), np.int32)
            padded[0, : len(piece)] = piece
            length = np.array([len(piece)], np.int32)
            states = self._predict(PREFILL, {TOKENS: padded, LENGTH: length, **states}, self._step_outputs())
            logits = states.pop(LOGITS)[0]
        return logits, states

    def draw(
        self,
        token: int,
        states: dict[str, np.ndarray],
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Returns the token sampled after `token`, and the new states.

        The server samples it, unless the settings include a repetition penalty or a bias. The signature `sample` has
        neither, so the client then samples from the logits.
        """
        if settings.repetition_penalty != 1 or not np.array_equal(logit_bias, self._bias):
            return super().draw(token, states, uniform, settings, logit_bias, history)
        inputs = {TOKEN: token_ids([token]), UNIFORM: np.array([uniform], np.float32)}
        inputs |= sampling_inputs([self._with_int32_top_k(settings)])
        number = {NEXT_TOKEN: Output("int32", (1,)), LOG_PROBABILITY: Output("float32", (1,))}
        new_states = self._predict(SAMPLE, {**inputs, **states}, {**number, **self._state_outputs()})
        drawn = new_states.pop(NEXT_TOKEN)
        with self._answer_of(SAMPLE):
            require_range(NEXT_TOKEN, drawn, 0, self.vocabulary_size - 1)
            if not np.isfinite(new_states.pop(LOG_PROBABILITY)[0]):
                raise ValueError("the model's logits must be numbers, one of them finite at least")
        return int(drawn[0]), new_states


def _column(name: str, value: Any, rows: int) -> Any:
    """Returns the values of an option of `write`, one for each row."""
    if not isinstance(value, list | tuple | np.ndarray):
        return [value] * rows
    require.that(len(value) == rows, name, f"one value or a list of {rows}, one for each prompt", value)
    return value


def _rows_of(inputs: Mapping[str, np.ndarray], start: int) -> dict[str, np.ndarray]:
    """Returns the rows of a request that begins with the row `start`."""
    return {name: value[start : start + MAX_BATCH_SIZE] for name, value in inputs.items()}
