"""A stand-in for TensorFlow Serving, over REST and gRPC on loopback, for tests of the client.

The SavedModel, TensorFlow's C++ session and the messages of tensorflow-serving-api are real. The translation to and
from JSON, the errors, and the rules of `--enable_batching` are written here after TensorFlow Serving's documentation
and sources. `python loopback_server.py DIRECTORY [REST_PORT GRPC_PORT]` serves the SavedModel as version 1 of the
model "shakespeare" and prints its ports as JSON.
"""

import base64
import functools
import json
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_seq_export.errors import SessionError
from keras_seq_export.saved_model.cpp_session import CppSession, signature_tensors
from keras_seq_export.signatures import MAX_BATCH_SIZE

MODEL = "shakespeare"
VERSIONS = {0: "END", 1: "AVAILABLE", 2: "LOADING"}


class NotFound(Exception):
    """The server has no such model or version."""


class Refused(Exception):
    """The server refuses a request before it reaches the model."""


class Batcher:
    """Runs the requests of one signature as batches, as `--enable_batching` does; an error fails the whole batch."""

    def __init__(self, run):
        self.run, self.lock, self.waiting = run, threading.Lock(), []

    def __call__(self, inputs):
        sizes = {len(value) for value in inputs.values()}
        if len(sizes) > 1:
            raise Refused("Batching session Run() input tensors must have equal 0th-dimension size")
        if max(sizes) > MAX_BATCH_SIZE:
            raise Refused(f"Task size {max(sizes)} is larger than maximum input batch size {MAX_BATCH_SIZE}")
        answer = Future()
        with self.lock:
            self.waiting.append((inputs, answer))
            leads = len(self.waiting) == 1
        if leads:
            time.sleep(0.003)
            self.run_waiting()
        return answer.result()

    def run_waiting(self):
        with self.lock:
            tasks, self.waiting = self.waiting, []
        while tasks:
            batch = [tasks.pop(0)]
            while tasks and sum(rows(inputs) for inputs, _ in [*batch, tasks[0]]) <= MAX_BATCH_SIZE:
                batch.append(tasks.pop(0))
            try:
                names = batch[0][0]
                outputs = self.run({name: np.concatenate([inputs[name] for inputs, _ in batch]) for name in names})
            except Exception as error:
                for _, answer in batch:
                    answer.set_exception(error)
                continue
            start = 0
            for inputs, answer in batch:
                end = start + rows(inputs)
                answer.set_result({name: value[start:end] for name, value in outputs.items()})
                start = end


def rows(inputs):
    return len(next(iter(inputs.values())))


class Model:
    def __init__(self, directory):
        session, self.signatures = CppSession(directory), signature_tensors(directory)
        self.batchers = {
            name: Batcher(functools.partial(session.run_signature, tensors))
            for name, tensors in self.signatures.items()
        }

    def find(self, name, version):
        if name != MODEL or version not in (None, 1):
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise NotFound(f"Servable not found for request: {which}")

    def states(self, name):
        if name != MODEL:
            raise NotFound(f"Could not find any versions of model {name}")
        return VERSIONS

    def predict(self, signature, inputs):
        return self.batchers[signature](inputs)


def from_json(value, dtype):
    if dtype == tf.string:
        decoded = [base64.b64decode(one["b64"]) if isinstance(one, dict) else one.encode() for one in value]
        return np.array(decoded, object)
    return np.array(value, dtype.as_numpy_dtype)


def to_json(name, value):
    if value.dtype != object:
        return value.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(one).decode()} for one in value]
    return [one.decode() for one in value]


def columns_of(body, names):
    """Returns the inputs by name from a request in column form or in row form."""
    if "inputs" in body:
        columns = body["inputs"]
    else:
        columns = {name: [row[name] for row in body["instances"] if name in row] for name in names}
    for name in names:
        if not columns.get(name):  # REST has no defaults.
            raise Refused(f"Missing named input: {name} in 'inputs' object.")
    return columns


def rest_handler(model, dtypes):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def model_and_version(self):
            """Returns the name and the version in the path."""
            parts = self.path.partition(":")[0].strip("/").split("/")
            if parts[:2] != ["v1", "models"] or len(parts) not in (3, 5):
                raise Refused(f"Malformed request: {self.path}")
            return unquote(parts[2]), int(parts[4]) if len(parts) == 5 else None

        def do_GET(self):
            try:
                states = model.states(self.model_and_version()[0])
            except NotFound as error:
                return self.answer(404, {"error": str(error)})
            states = [
                {"version": str(version), "state": state, "status": {"error_code": "OK", "error_message": ""}}
                for version, state in states.items()
            ]
            return self.answer(200, {"model_version_status": states})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature = body.get("signature_name", "serving_default")
            try:
                model.find(*self.model_and_version())
                if signature not in dtypes:
                    raise Refused(f'Serving signature name: "{signature}" not found in signature def')
                columns = columns_of(body, dtypes[signature])
                inputs = {name: from_json(value, dtypes[signature][name]) for name, value in columns.items()}
                outputs = {name: to_json(name, value) for name, value in model.predict(signature, inputs).items()}
            except NotFound as error:
                return self.answer(404, {"error": str(error)})
            except (Refused, SessionError) as error:
                return self.answer(400, {"error": str(error)})
            if "instances" in body:
                predictions = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
                return self.answer(200, {"predictions": predictions})
            # TensorFlow Serving omits the name of a single output.
            return self.answer(200, {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))})

        def answer(self, code, content):
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return Handler


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        spec = request.model_spec
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            self.model.find(spec.name, spec.version.value if spec.HasField("version") else None)
            if spec.signature_name not in self.model.signatures:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{spec.signature_name}" not found.'
                )
            outputs = self.model.predict(spec.signature_name, inputs)
        except NotFound as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except (Refused, SessionError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model):
        self.model = model

    def GetModelStatus(self, request, context):
        try:
            states = self.model.states(request.model_spec.name)
        except NotFound as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        answer = get_model_status_pb2.GetModelStatusResponse()
        for version, state in states.items():
            answer.model_version_status.add(version=version, state=state)
        return answer


def main(directory, rest_port="0", grpc_port="0"):
    model = Model(directory)
    loaded = tf.saved_model.load(directory)
    dtypes = {
        name: {key: spec.dtype for key, spec in function.structured_input_signature[1].items()}
        for name, function in loaded.signatures.items()
    }
    rest = ThreadingHTTPServer(("127.0.0.1", int(rest_port)), rest_handler(model, dtypes))
    served = grpc.server(ThreadPoolExecutor(24))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(model), served)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(model), served)
    port = served.add_insecure_port(f"127.0.0.1:{grpc_port}")
    served.start()
    print(json.dumps({"rest": rest.server_address[1], "grpc": port}), flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
