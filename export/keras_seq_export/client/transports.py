"""The REST and gRPC interfaces of TensorFlow Serving; gRPC needs `pip install tensorflow-serving-api`."""

import base64
import importlib.util
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import numpy as np
import requests
import urllib3.exceptions

from keras_seq import require
from keras_seq.json_text import parse_json
from keras_seq_export.client.answers import LARGEST_SIZE, AnswerSize, from_json, from_tensor
from keras_seq_export.client.bounded_session import BoundedSession
from keras_seq_export.client.message_size import small_parts
from keras_seq_export.errors import ServingError

_SHOWN = 1_000  # characters of a server's message in ours
_MOST_OUTPUTS = 1_000  # of a signature; most of them are states
_SMALL = AnswerSize()


class RefusedError(ServingError):
    """A server has received a request and refuses it."""


class Transport(Protocol):
    """The requests that a client sends to a server. Each raises `ServingError` if the server does not answer.

    Attributes:
        version: version of the model that `predict` uses.
        address: address of the server, without a password.
    """

    version: int | None
    address: str

    def newest_version(self) -> int:
        """Returns the newest available version of the model."""

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], only: str = "", most: AnswerSize = _SMALL
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name; strings are arrays of `bytes` objects.

        Args:
            signature: its name.
            inputs: its inputs by name.
            only: name of the output, if the signature may have a single one. REST leaves this name out.
            most: how large the answer may be.
        """

    def close(self) -> None:
        """Closes the connection."""


def transport(address: str, model: str, timeout: float) -> Transport:
    """Returns the connection to `model` at `address`.

    Args:
        address: `http://HOST:PORT`, `https://HOST:PORT` or `grpc://HOST:PORT`.
        model: name of the model on the server.
        timeout: seconds to wait for an answer.

    Raises:
        ServingError: `address` is a grpc:// address and tensorflow-serving-api is not installed.
        ValueError: `address` or `model` is malformed.
    """
    try:
        parts = urlsplit(address) if isinstance(address, str) else urlsplit("")
        well_formed = bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:  # The port is not a number, or too large.
        well_formed = False
    if parts.scheme == "grpc":
        well_formed = well_formed and bool(parts.port) and not parts.path.strip("/")
    well_formed = well_formed and parts.scheme in ("http", "https", "grpc")
    require.that(well_formed, "address", "http://HOST:PORT or grpc://HOST:PORT", address)
    require.that(isinstance(model, str) and bool(model), "model", "the model's name on the server", model)
    if parts.scheme != "grpc":
        return RestTransport(address.rstrip("/"), model, timeout)
    if not importlib.util.find_spec("tensorflow_serving"):
        raise ServingError("gRPC needs pip install tensorflow-serving-api; REST, http://HOST:8501, does not")
    return GrpcTransport(parts.netloc, model, timeout)


class RestTransport:
    """TensorFlow Serving's REST interface; requests are in column form, one list for each input."""

    def __init__(self, address: str, model: str, timeout: float):
        self.version: int | None = None
        self._model, self._timeout = model, timeout
        self._url = f"{address}/v1/models/{quote(model, safe='')}"
        parts = urlsplit(address)
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # without a password
        self._session = BoundedSession()

    def newest_version(self) -> int:
        """See `Transport`."""
        answer = self._ask("GET", self._url)
        try:
            states = {int(status["version"]): str(status["state"])[:20] for status in answer["model_version_status"]}
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ServingError(
                f"{self.address} is not TensorFlow Serving: it reports no versions of {self._model}"
            ) from error
        return _newest(states, self._model, self.address)

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], only: str = "", most: AnswerSize = _SMALL
    ) -> dict[str, np.ndarray]:
        """See `Transport`."""
        for name, value in inputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ServingError(f"`{name}` must be finite, as all numbers in JSON. Received: {value.tolist()}")
        columns = {name: _to_json(value) for name, value in inputs.items()}
        url = f"{self._url}/versions/{self.version}:predict"
        outputs = self._ask("POST", url, {"signature_name": signature, "inputs": columns}, most).get("outputs")
        if only and isinstance(outputs, list):
            outputs = {only: outputs}
        if not isinstance(outputs, dict):
            raise ServingError(f"{self._model} at {self.address}: the answer of {signature} has no named outputs")
        return _arrays(outputs, from_json, f"{self._model} at {self.address}", signature)

    def _ask(self, method: str, url: str, body: Any = None, most: AnswerSize = _SMALL) -> dict[str, Any]:
        try:
            with self._session.request(method, url, json=body, timeout=self._timeout, stream=True) as response:
                content = response.raw.read(most.size + 1, decode_content=False)
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise _no_answer(self.address, self._timeout) from error
        except requests.ConnectionError as error:
            cause = str(getattr(error.args[0], "reason", error.args[0]) if error.args else error).rpartition(": ")[2]
            raise ServingError(
                f"no answer from {self.address} ({cause[:_SHOWN]}): check that the server is running and that this is "
                "its REST port, usually 8501"
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ServingError(f"the answer of {self.address} cannot be read: {str(error)[:_SHOWN]}") from error
        return self._object(response, content, most)

    def _object(self, response: requests.Response, content: bytes, most: AnswerSize) -> dict[str, Any]:
        """Returns the JSON object of an answer."""
        status = f"{response.status_code} {str(response.reason)[:_SHOWN]}"
        if len(content) > most.size or not most.has_values_of(content):
            raise _too_large(self.address, most)
        if 300 <= response.status_code < 400:
            target = response.headers.get("Location", "")[:_SHOWN]
            raise ServingError(f"{self.address} answered {status} and names {target!r}: give the server's own address")
        if coding := response.headers.get("Content-Encoding", "")[:_SHOWN]:
            raise ServingError(f"{self.address} answered in the encoding {coding!r}, which was not requested")
        try:
            answer = parse_json(content)
        except ValueError as error:
            raise ServingError(
                f"{self.address} answered {status} without JSON, which TensorFlow Serving always returns"
            ) from error
        if not isinstance(answer, dict):
            raise ServingError(
                f"{self.address} answered {status} without a JSON object, which TensorFlow Serving always returns"
            )
        if not response.ok or "error" in answer:
            message = answer.get("error")
            raise RefusedError(
                f"{self._model} at {self.address}: {_plain(message if isinstance(message, str) else status)}"
            )
        return answer

    def close(self) -> None:
        """See `Transport`."""
        self._session.close()


def _to_json(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]
    return value.tolist()


class GrpcTransport:
    """TensorFlow Serving's gRPC interface."""

    def __init__(self, address: str, model: str, timeout: float):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2

        options = [("grpc.max_receive_message_length", LARGEST_SIZE.size), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        # Answers arrive as bytes: the limit of the channel is the same for all, and as objects they are larger.
        self._predict = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict", predict_pb2.PredictRequest.SerializeToString
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self.version: int | None = None
        self.address, self._model, self._timeout = f"grpc://{address}", model, timeout

    def newest_version(self) -> int:
        """See `Transport`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        answer = self._ask(self._models.GetModelStatus, request)
        names = dict(map(reversed, get_model_status_pb2.ModelVersionStatus.State.items()))
        states = {status.version: names.get(status.state, "?") for status in answer.model_version_status}
        return _newest(states, self._model, self.address)

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray], only: str = "", most: AnswerSize = _SMALL
    ) -> dict[str, np.ndarray]:
        """See `Transport`."""
        import tensorflow as tf
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        content = self._ask(self._predict, request)
        if len(content) > most.size or (len(content) > _SMALL.size and small_parts(content) > _SMALL.size):
            raise _too_large(self.address, most)
        try:
            answer = predict_pb2.PredictResponse.FromString(content)
        except DecodeError as error:
            raise ServingError(
                f"{self.address} answered without a message, which TensorFlow Serving always returns"
            ) from error
        return _arrays(answer.outputs, from_tensor, f"{self._model} at {self.address}", signature)

    def _ask(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _no_answer(self.address, self._timeout) from error
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
                raise _too_large(self.address, LARGEST_SIZE) from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                cause = (error.details() or "").rpartition(": ")[2][:_SHOWN]
                raise ServingError(
                    f"no answer from {self.address} ({cause}): check that the server is running, that this is its "
                    "gRPC port, usually 8500, and that it is not overloaded"
                ) from error
            raise RefusedError(f"{self._model} at {self.address}: {_plain(error.details() or '')}") from error

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()


def _no_answer(address: str, timeout: float) -> ServingError:
    return ServingError(
        f"no answer from {address} within {timeout:g} seconds: send smaller requests or increase `timeout`"
    )


def _too_large(address: str, most: AnswerSize) -> ServingError:
    return ServingError(
        f"the answer of {address} is larger than {most.size // 2**20} MiB or {most.values:,} values, the most that is "
        "expected for this request: if it has texts, send fewer or shorter ones"
    )


def _arrays(
    outputs: Mapping[str, Any], to_array: Callable[[Any], np.ndarray], source: str, signature: str
) -> dict[str, np.ndarray]:
    """Returns the outputs of an answer as arrays."""
    if len(outputs) > _MOST_OUTPUTS:
        raise ServingError(f"{source}: the answer of {signature} has {len(outputs):,} outputs, more than an export has")
    arrays = {}
    for name, value in outputs.items():
        try:
            arrays[name] = to_array(value)
        except ValueError as error:
            raise ServingError(
                f"{source}: the answer of {signature} cannot be read: `{name[:_SHOWN]}` is malformed, {error}"
            ) from error
    return arrays


def _newest(states: Mapping[int, str], model: str, address: str) -> int:
    """Returns the highest version whose state is AVAILABLE; `states` has the state of each version."""
    available = [version for version, state in states.items() if state == "AVAILABLE" and 0 <= version < 2**63]
    if not available:
        shown = itertools.islice(states.items(), 10)
        reported = ", ".join(f"{str(version)[:20]} is {state}" for version, state in shown) or "it has no versions"
        raise ServingError(f"{model} at {address} has no available version: {reported}")
    return max(available)


def _plain(message: str) -> str:
    r"""Returns an error message of TensorFlow without the graph's names.

    Example:
        >>> _plain("assertion failed: [`top_k` must be at least 0. Received:] [-5]\n\t [[{{node Assert}}]]")
        '`top_k` must be at least 0. Received: [-5]'
    """
    message = message.partition("\n\t [[")[0].strip()[:_SHOWN]
    if found := re.fullmatch(r"(?s)assertion failed: \[(.*?:)\] (\[.*\])", message):
        return " ".join(found.groups())
    return message
