"""A client of TensorFlow Serving, over REST or gRPC: texts written by the server, or token by token with the states kept here.

Needs neither TensorFlow nor Keras over REST; gRPC needs `pip install tensorflow-serving-api`.
"""

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from keras_seq import require
from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation, encode_prompt
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq.generation.score import Score
from keras_seq.generation.text import Options, Text
from keras_seq.generation.threefry import seed_words
from keras_seq_export.client.transports import transport
from keras_seq_export.errors import ServingError
from keras_seq_export.requests import GenerateRequest, sampling_inputs, generate_inputs, strings
from keras_seq_export.signatures import (
    DECODE,
    FINISH_REASON,
    GENERATE,
    GENERATE_INPUTS,
    LENGTH,
    LOG_PROBABILITIES,
    LOG_PROBABILITY,
    LOGITS,
    MAX_BATCH_SIZE,
    MAX_TOKENS,
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
    VOCABULARY_BYTES,
    is_state,
)

_LONGEST = 86_400  # seconds to wait; far more no clock can tell


class Client(Step):
    """A model on a TensorFlow Serving server; also a `keras_seq.generation.decoder_step.Step`, whose states stay with the client.

    It stays with the version it found, also where newer ones are published, as the states of one version mean nothing to
    another. A server that lets go of that version refuses; a new client finds the new one. Threads take a client each.

    Args:
        address: `http://HOST:8501` for REST, `grpc://HOST:8500` for gRPC.
        model: its name on the server.
        version: of the model; None takes the newest that is available.
        vocabulary: what the model must have; None takes what it has.
        timeout: seconds to wait for an answer; over REST, for its next part.

    Attributes:
        version: of the model.
        vocabulary: the model's vocabulary.
        vocabulary_size: how many tokens there are.

    Raises:
        ServingError: the server is not there, or has no such model, or one of another vocabulary.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        vocabulary: Vocabulary | None = None,
        timeout: float = 30.0,
    ):
        if not require.is_number(timeout) or not 0 < timeout <= _LONGEST:
            raise ValueError(f"`timeout` must be above 0 seconds and at most a day. Received: timeout={timeout!r}")
        if version is not None and not (type(version) is int and 0 <= version < 2**63):
            raise ValueError(
                f"`version` must be a whole number of at most 63 bits, or None. Received: version={version!r}"
            )
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            raise ValueError(f"`vocabulary` must be a Vocabulary, or None. Received: {vocabulary!r}")
        self._transport = transport(address, model, timeout)
        try:
            self.version = self._transport.newest_version() if version is None else version
            self._transport.version = self.version
            self._begin(f"{model} at {address}, version {self.version},", vocabulary)
        except Exception:
            self.close()
            raise

    def _begin(self, where: str, vocabulary: Vocabulary | None) -> None:
        """Asks for what a text begins with: the vocabulary, the zero states, and the usual length."""
        answer = self._transport.predict(START, {TOKEN: np.zeros(1, np.int32)})
        try:
            self.vocabulary, self._zeros = Vocabulary.from_bytes(answer[VOCABULARY_BYTES][0]), _states(answer)
            self._max_tokens = int(answer[MAX_TOKENS][0])
        except (KeyError, ValueError) as error:
            raise ServingError(
                f"{where} does not tell its vocabulary as an export of keras_seq does: {error}"
            ) from error
        if vocabulary is not None and vocabulary.sha256 != self.vocabulary.sha256:
            raise ServingError(
                f"{where} has another vocabulary: SHA-256 {self.vocabulary.sha256}, not {vocabulary.sha256}"
            )
        self.vocabulary_size = len(self.vocabulary)
        self._bias = logit_bias(self.vocabulary, SamplingSettings())

    def write(self, prompts: str | list[str] | tuple[str, ...] = "", **options: Any) -> Any:
        """Returns texts that the server writes whole: a `Text`, or of several prompts a list of them.

        Args:
            prompts: one, or several, of which 32 make a request.
            **options: `max_tokens` (200, or what the export says), `temperature`, `top_k`, `top_p`, `min_p` (all off), `seed`
                (a new one for each text; the same seed may serve several prompts). With several prompts each may be a list, one for
                each.

        Raises:
            ServingError: the server refuses them, or does not answer.
            TypeError: an option has another name.
            ValueError: an option is out of range, or a prompt is not of the vocabulary.
        """
        known = [name for name in GENERATE_INPUTS if name != PROMPT]
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(
                f"`{unknown[0]}` is no option of `write`; these are: {', '.join(known)}; `generate` has more"
            )
        rows: list[Any] = list(prompts) if isinstance(prompts, list | tuple) else [prompts]
        columns = {name: _column(name, value, len(rows)) for name, value in options.items()}
        wanted = [
            self._wanted(prompt, **{name: column[row] for name, column in columns.items()})
            for row, prompt in enumerate(rows)
        ]
        texts = [
            text
            for start in range(0, len(rows), MAX_BATCH_SIZE)
            for text in self._write(wanted[start : start + MAX_BATCH_SIZE])
        ]
        return texts if isinstance(prompts, list | tuple) else texts[0]

    def _wanted(self, prompt: str, max_tokens: int | None = None, seed: int | None = None, **settings: Any) -> GenerateRequest:
        """Returns what is wanted in one row, checked before it is sent."""
        encode_prompt(self.vocabulary, prompt)
        max_tokens = self._max_tokens if max_tokens is None else max_tokens
        require.positive_integer(MAX_TOKENS, max_tokens)
        if max_tokens >= 2**31:
            raise ValueError(f"`max_tokens` must be an integer of 32 bits. Received: max_tokens={max_tokens!r}")
        seed = secrets.randbits(63) if seed is None else seed
        seed_words(seed)
        return GenerateRequest(prompt, max_tokens, seed, self._in_int32(SamplingSettings(**settings)))

    def _write(self, wanted: Sequence[GenerateRequest]) -> Iterator[Text]:
        # All inputs: REST knows no defaults, and a server that batches wants a value a row.
        answer = self._transport.predict(GENERATE, generate_inputs(wanted))
        for row, length in enumerate(answer[LENGTH].tolist()):
            text, reason = answer[TEXT][row].decode("utf-8"), answer[FINISH_REASON][row].decode()
            yield Text(text, answer[TOKEN_IDS][row][:length].tolist(), None, reason)

    def _in_int32(self, settings: SamplingSettings) -> SamplingSettings:
        """Returns settings that draw the same, with a `top_k` that the server's integers can hold."""
        return dataclasses.replace(settings, top_k=min(settings.top_k, self.vocabulary_size))

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over the pieces of a continuation, token by token, with all options of `keras_seq.generate`.

        After an error there are no more pieces; asked again with the same seed, it begins anew with the same text.
        """
        return Generation(self, self.vocabulary, prompt, **options)

    def score(self, text: str) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does."""
        self.vocabulary.encode(text)
        answer = self._transport.predict(SCORE, {TEXT: strings([text])})
        length = int(answer[LENGTH][0])
        ids, chances = answer[TOKEN_IDS][0][:length], answer[LOG_PROBABILITIES][0][:length]
        return Score(ids.astype(np.int32), chances.astype(np.float64))

    def initial_states(self) -> dict[str, np.ndarray]:
        """Returns the zero states, as the server has told them."""
        return dict(self._zeros)

    def close(self) -> None:
        """Closes the connection; `with Client(...) as client:` does so too."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, token: int, states: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states, as `initial_states` has them."""
        answer = self._transport.predict(DECODE, {TOKEN: np.array([token], np.int32), **states})
        return answer[LOGITS][0], _states(answer)

    def prefill(self, tokens: Sequence[int], states: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the logits `(vocabulary,)` and the states after the last of the tokens, 64 of them a request."""
        for start in range(0, len(tokens), PREFILL_STEPS):
            piece = tokens[start : start + PREFILL_STEPS]
            padded = np.zeros((1, PREFILL_STEPS), np.int32)
            padded[0, : len(piece)] = piece
            length = np.array([len(piece)], np.int32)
            answer = self._transport.predict(PREFILL, {TOKENS: padded, LENGTH: length, **states})
            states = _states(answer)
        return answer[LOGITS][0], states

    def draw(
        self,
        token: int,
        states: dict[str, np.ndarray],
        uniform: float,
        settings: SamplingSettings,
        logit_bias: np.ndarray,
        history: Sequence[int],
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Returns the token drawn after `token`, by the server where it can, and the new states."""
        if settings.repetition_penalty != 1 or not np.array_equal(logit_bias, self._bias):
            return super().draw(token, states, uniform, settings, logit_bias, history)
        inputs = {TOKEN: np.array([token], np.int32), UNIFORM: np.array([uniform], np.float32)}
        answer = self._transport.predict(SAMPLE, {**inputs, **sampling_inputs([self._in_int32(settings)]), **states})
        if not np.isfinite(answer[LOG_PROBABILITY][0]):
            raise ValueError("the model's logits must be numbers; these are not")
        return int(answer[NEXT_TOKEN][0]), _states(answer)


def _column(name: str, value: Any, rows: int) -> Any:
    """Returns an option of `write` for each row."""
    if not isinstance(value, list | tuple | np.ndarray):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"`{name}` must be one, or a list of {rows}, one for each prompt. Received: {name}={value!r}")
    return value


def _states(answer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in answer.items() if is_state(name)}
