"""A client of TensorFlow Serving, over REST or gRPC: texts written by the server, or token by token with the states kept here.

Needs neither TensorFlow nor Keras over REST; gRPC needs `pip install keras_seq[grpc]`.
"""

import base64
import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Unpack

import numpy as np
import requests

from keras_seq.generation import Generation, Options, Text
from keras_seq.reading import Step
from keras_seq.sampling import DRAWING, SamplingSettings, logit_bias
from keras_seq.scoring import Score
from keras_seq.vocabulary import Vocabulary
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
)

# What the server's `serving_default` takes beside the prompt: dtype and what is taken where it is left out.
_WRITE = {
    "max_tokens": ("int32", 200),
    **{name: (dtype, getattr(SamplingSettings(), name)) for name, dtype in SETTINGS.items()},
    "seed": ("int64", 0),
}


class ServingError(RuntimeError):
    """A server that is not there, does not answer in time, or refuses a request; the message says which."""


class Transport(Protocol):
    """How requests reach the server."""

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name; strings are arrays of `bytes` objects."""

    def close(self) -> None:
        """Closes the connection."""


class Client(Step):
    """A model on a TensorFlow Serving server; also a `keras_seq.reading.Step`, whose states stay with the client.

    A text that is written token by token wants one version of the model throughout: name it where new ones are published
    meanwhile. Threads take a client each.

    Args:
        address: `http://HOST:8501` for REST, `grpc://HOST:8500` for gRPC.
        model: its name on the server.
        version: of the model; None takes the newest.
        vocabulary: what the model must have; None takes what it has.
        timeout: seconds to wait for an answer.

    Attributes:
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
        if not timeout > 0:
            raise ValueError(f"`timeout` must be a positive number of seconds. Received: timeout={timeout!r}")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
            raise ValueError(f"`version` must be a whole number, or None. Received: version={version!r}")
        self._transport = _transport(address, model, version, timeout)
        answer = self._transport.predict(START, {TOKEN: np.zeros(1, np.int32)})
        if VOCABULARY_BYTES not in answer:
            raise ServingError(f"{model} at {address} was not exported by keras_seq: its {START} tells no vocabulary")
        self.vocabulary, self._zeros = Vocabulary.from_bytes(answer[VOCABULARY_BYTES][0]), _states(answer)
        if vocabulary is not None and vocabulary.sha256 != self.vocabulary.sha256:
            raise ServingError(
                f"{model} at {address} has another vocabulary: SHA-256 {self.vocabulary.sha256}, not {vocabulary.sha256}"
            )
        self.vocabulary_size = len(self.vocabulary)
        self._bias = logit_bias(self.vocabulary, SamplingSettings())

    def write(self, prompts: str | Sequence[str] = "", **options: Any) -> Any:
        """Returns texts that the server writes in one request: a `Text`, or of several prompts a list of them.

        Args:
            prompts: one, or several, which are written as a batch.
            **options: `max_tokens`, `temperature`, `top_k`, `top_p`, `min_p`, `seed`; those left out are
                200, off, and 0. With several prompts each may be a list, one for each.

        Raises:
            ServingError: the server refuses them, or does not answer.
            TypeError: an option has another name.
        """
        if unknown := sorted(set(options) - set(_WRITE)):
            raise TypeError(f"`{unknown[0]}` is no option of the server; these are: {', '.join(_WRITE)}")
        rows = [prompts] if isinstance(prompts, str) else list(prompts)
        if not rows:
            return []
        inputs = {"prompt": np.array([row.encode("utf-8") for row in rows], object)}
        # REST knows no defaults, and a server that batches wants a value a row.
        for name, (dtype, usual) in _WRITE.items():
            inputs[name] = _column(name, options.get(name, usual), dtype, len(rows))
        answer = self._transport.predict(GENERATE, inputs)
        texts = [
            Text(
                answer[TEXT][row].decode("utf-8"),
                answer["token_ids"][row][:length].tolist(),
                None,
                answer["finish_reason"][row].decode(),
            )
            for row, length in enumerate(answer[LENGTH].tolist())
        ]
        return texts[0] if isinstance(prompts, str) else texts

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over the pieces of a continuation, token by token, with all options of `keras_seq.generate`."""
        return Generation(self, self.vocabulary, prompt, **options)

    def score(self, text: str) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does."""
        answer = self._transport.predict(SCORE, {TEXT: np.array([text.encode("utf-8")], object)})
        length = int(answer[LENGTH][0])
        ids, chances = answer["token_ids"][0][:length], answer[LOG_PROBABILITIES][0][:length]
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
        """Returns the logits `(vocabulary,)` after `token`, and the new states."""
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
        drawing = {name: getattr(settings, name) for name in DRAWING}
        drawing["top_k"] = min(drawing["top_k"], self.vocabulary_size)
        inputs = {TOKEN: np.array([token], np.int32), UNIFORM: np.array([uniform], np.float32)}
        inputs |= {name: np.array([drawing[name]], dtype) for name, dtype in SETTINGS.items()}
        answer = self._transport.predict(SAMPLE, {**inputs, **states})
        if not np.isfinite(answer[LOG_PROBABILITY][0]):
            raise ValueError("the model's logits must be numbers; these are not")
        return int(answer[NEXT_TOKEN][0]), _states(answer)


def _column(name: str, value: Any, dtype: str, rows: int) -> np.ndarray:
    """Returns an option of `write` as an input of the server, a number a row."""
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        given = np.broadcast_to(value, rows)
        column = given.astype(dtype)
        whole = column.dtype.kind == "i"
        if given.dtype.kind in ("iu" if whole else "iuf") and (not whole or (column == given).all()):
            return column
    raise ValueError(
        f"`{name}` must be a number ({dtype}), or a list of {rows}, one for each prompt. Received: {value!r}"
    )


def _states(answer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in answer.items() if is_state(name)}


def _transport(address: str, model: str, version: int | None, timeout: float) -> Transport:
    scheme, _, host = address.partition("://")
    if scheme in ("http", "https") and host:
        return _Rest(f"{address.rstrip('/')}/v1/models/{model}", version, timeout)
    if scheme == "grpc" and host:
        if not importlib.util.find_spec("tensorflow_serving"):
            raise ServingError(
                "gRPC needs tensorflow-serving-api: pip install keras_seq[grpc], or use REST, http://HOST:8501"
            )
        return _Grpc(host.rstrip("/"), model, version, timeout)
    raise ValueError(f"`address` must be http://HOST:PORT or grpc://HOST:PORT. Received: address={address!r}")


class _Rest:
    """TensorFlow Serving's REST interface, in its column form."""

    def __init__(self, url: str, version: int | None, timeout: float):
        self._url = f"{url}:predict" if version is None else f"{url}/versions/{version}:predict"
        self._timeout = timeout
        self._session = requests.Session()

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport`."""
        for name, value in inputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ServingError(f"`{name}` must be finite: JSON has no other numbers. Received: {value.tolist()}")
        columns = {name: _to_json(value) for name, value in inputs.items()}
        request = {"signature_name": signature, "inputs": columns}
        try:
            response = self._session.post(self._url, json=request, timeout=self._timeout)
            answer = response.json()
        except requests.Timeout as error:
            raise ServingError(f"no answer from {self._url} within {self._timeout:g} seconds") from error
        except requests.ConnectionError as error:
            raise ServingError(f"no server at {self._url}: start it, or name another address") from error
        except (requests.RequestException, ValueError) as error:
            raise ServingError(f"{self._url} is no TensorFlow Serving: its answer is not JSON") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("outputs"), dict):
            told = answer.get("error") if isinstance(answer, dict) else None
            raise ServingError(f"{self._url}, {signature}: {told or response.reason}")
        return {name: _from_json(value) for name, value in answer["outputs"].items()}

    def close(self) -> None:
        """See `Transport`."""
        self._session.close()


def _to_json(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]
    return value.tolist()


def _from_json(value: list[Any]) -> np.ndarray:
    if value and isinstance(value[0], str):
        return np.array([item.encode("utf-8") for item in value], object)
    if value and isinstance(value[0], dict):
        return np.array([base64.b64decode(item["b64"]) for item in value], object)
    array = np.array(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


class _Grpc:
    """TensorFlow Serving's gRPC interface."""

    def __init__(self, host: str, model: str, version: int | None, timeout: float):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(host, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._host, self._model, self._version, self._timeout = host, model, version, timeout

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport`."""
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        if self._version is not None:
            request.model_spec.version.value = self._version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = self._stub.Predict(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServingError(f"no answer from {self._host} within {self._timeout:g} seconds") from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise ServingError(
                    f"no server at {self._host}: start it, or name another address ({error.details()})"
                ) from error
            raise ServingError(f"{self._model} at {self._host}, {signature}: {error.details()}") from error
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()
