"""How requests reach TensorFlow Serving: by REST, or by gRPC, which needs `pip install tensorflow-serving-api`."""

import base64
import importlib.util
import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import numpy as np
import requests
from urllib3.exceptions import ReadTimeoutError

from keras_seq_export.errors import ServingError


class Transport(Protocol):
    """The two questions that the client has for a server. Both raise `ServingError`.

    Attributes:
        version: of the model, which `predict` asks.
    """

    version: int | None

    def newest_version(self) -> int:
        """Returns the newest version of the model that is available."""

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name; strings are arrays of `bytes` objects."""

    def close(self) -> None:
        """Closes the connection."""


def transport(address: str, model: str, timeout: float) -> Transport:
    """Returns what reaches `model` at `address`, `http://HOST:PORT`, `https://HOST:PORT` or `grpc://HOST:PORT`.

    Raises:
        ValueError: `address` is none of these.
        ServingError: gRPC is not installed.
    """
    try:
        parts = urlsplit(address) if isinstance(address, str) else urlsplit("")
        fits = bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:  # a port that is no number, or too large
        fits = False
    if parts.scheme == "grpc":
        fits = fits and bool(parts.port) and not parts.path.strip("/")
    if not fits or parts.scheme not in ("http", "https", "grpc"):
        raise ValueError(f"`address` must be http://HOST:PORT or grpc://HOST:PORT. Received: address={address!r}")
    if not isinstance(model, str) or not model:
        raise ValueError(f"`model` must be the model's name on the server. Received: model={model!r}")
    if parts.scheme != "grpc":
        return RestTransport(address.rstrip("/"), model, timeout)
    if not importlib.util.find_spec("tensorflow_serving"):
        raise ServingError("gRPC needs pip install tensorflow-serving-api; or use REST, http://HOST:8501")
    return GrpcTransport(parts.netloc, model, timeout)


class RestTransport:
    """TensorFlow Serving's REST interface, in its column form."""

    def __init__(self, address: str, model: str, timeout: float):
        self.version: int | None = None
        self._model, self._timeout = model, timeout
        self._url = f"{address}/v1/models/{quote(model, safe='')}"
        parts = urlsplit(address)
        self._address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # without a password
        self._session = requests.Session()

    def newest_version(self) -> int:
        """See `Transport`."""
        answer = self._ask("GET", self._url)
        try:
            told = {int(one["version"]): str(one["state"]) for one in answer["model_version_status"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self._address} is no TensorFlow Serving: it tells no versions of {self._model}"
            ) from error
        return _newest(told, self._model, self._address)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport`."""
        for name, value in inputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ServingError(f"`{name}` must be finite: JSON has no other numbers. Received: {value.tolist()}")
        columns = {name: _to_json(value) for name, value in inputs.items()}
        url = f"{self._url}/versions/{self.version}:predict"
        outputs = self._ask("POST", url, {"signature_name": signature, "inputs": columns}).get("outputs")
        if not isinstance(outputs, dict):
            raise ServingError(f"{self._model} at {self._address}: the answer of {signature} has no named outputs")
        return {name: _from_json(value) for name, value in outputs.items()}

    def _ask(self, method: str, url: str, body: Any = None) -> dict[str, Any]:
        try:
            response = self._session.request(method, url, json=body, timeout=self._timeout)
        except requests.Timeout as error:
            raise _no_answer(self._address, self._timeout) from error
        except requests.ConnectionError as error:
            if error.args and isinstance(error.args[0], ReadTimeoutError):  # It began to answer, and stopped.
                raise _no_answer(self._address, self._timeout) from error
            cause = getattr(error.args[0], "reason", error.args[0]) if error.args else error
            raise ServingError(
                f"no answer from {self._address} ({str(cause).rpartition(': ')[2]}): is the server there, and is this its port for "
                "REST, usually 8501?"
            ) from error
        except requests.RequestException as error:
            raise ServingError(f"{self._address} gives no answer that can be read: {error}") from error
        status = f"{response.status_code} {response.reason}"
        try:
            answer = response.json()
        except ValueError as error:
            raise ServingError(f"{self._address} answers {status}, not with JSON as TensorFlow Serving does") from error
        if not isinstance(answer, dict):
            raise ServingError(f"{self._address} answers {status}, not with an object as TensorFlow Serving does")
        if not response.ok or "error" in answer:
            told = answer.get("error", status)
            raise ServingError(f"{self._model} at {self._address}: {_plain(str(told))}")
        return answer

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


class GrpcTransport:
    """TensorFlow Serving's gRPC interface."""

    def __init__(self, address: str, model: str, timeout: float):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self.version: int | None = None
        self._address, self._model, self._timeout = f"grpc://{address}", model, timeout

    def newest_version(self) -> int:
        """See `Transport`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        answer = self._ask(self._models.GetModelStatus, request)
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        told = {one.version: name_of(one.state) for one in answer.model_version_status}
        return _newest(told, self._model, self._address)

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Transport`."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        request.model_spec.version.value = self.version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        answer = self._ask(self._predictions.Predict, request)
        return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}

    def _ask(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _no_answer(self._address, self._timeout) from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise ServingError(
                    f"no answer from {self._address} ({(error.details() or '').rpartition(': ')[2]}): is the server there, is this "
                    "its port for gRPC, usually 8500, and is it not too busy?"
                ) from error
            raise ServingError(f"{self._model} at {self._address}: {_plain(error.details() or '')}") from error

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()


def _no_answer(address: str, timeout: float) -> ServingError:
    return ServingError(
        f"no answer from {address} within {timeout:g} seconds: ask for less at once, or give a longer `timeout`"
    )


def _newest(states: Mapping[int, str], model: str, address: str) -> int:
    """Returns the newest available version, of the states of all versions by number."""
    available = [version for version, state in states.items() if state == "AVAILABLE"]
    if not available:
        told = ", ".join(f"{version} is {state}" for version, state in states.items()) or "it has none"
        raise ServingError(f"{model} at {address} has no version that is available: {told}")
    return max(available)


def _plain(message: str) -> str:
    r"""Returns an error of TensorFlow without where in the graph it came about.

    Example:
        >>> _plain("assertion failed: [`top_k` must be an integer of at least 0. Received:] [-5]\n\t [[{{node Assert}}]]")
        '`top_k` must be an integer of at least 0. Received: [-5]'
    """
    message = message.partition("\n\t [[")[0].strip()
    if found := re.fullmatch(r"(?s)assertion failed: \[(.*?:)\] (\[.*\])", message):
        return " ".join(found.groups())
    return message
