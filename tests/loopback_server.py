"""Answers as TensorFlow Serving does, over REST and gRPC on loopback, for tests of the client. It is not TensorFlow Serving.

What is real: the SavedModel, TensorFlow's C++ session, the public messages of tensorflow-serving-api. What is ours: how
requests and answers become JSON, and the errors, as TensorFlow Serving's documentation of its REST interface has them.
"""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_seq_export.cpp_session import CppSession, SessionError, signature_tensors

MODEL = "shakespeare"


class Model:
    def __init__(self, directory):
        self.session, self.signatures = CppSession(directory), signature_tensors(directory)

    def predict(self, signature, inputs):
        if signature not in self.signatures:
            raise SessionError(f'Serving signature name: "{signature}" not found in signature def')
        names, outputs = self.signatures[signature]
        if unknown := sorted(set(inputs) - set(names)):
            raise SessionError(f"input tensor alias not found in signature: {unknown[0]}")
        feeds = {names[name]: value for name, value in inputs.items()}
        return dict(zip(outputs, self.session.run(feeds, list(outputs.values())), strict=True))


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


def rest_handler(model, dtypes):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.path.startswith((f"/v1/models/{MODEL}:predict", f"/v1/models/{MODEL}/versions/1:predict")):
                return self.answer(404, {"error": f"Servable not found for request: {self.path}"})
            signature = body.get("signature_name", "serving_default")
            for name in dtypes.get(signature, {}):
                if name not in body["inputs"]:  # It fills no defaults.
                    return self.answer(400, {"error": f"Missing named input: {name} in 'inputs' object."})
            try:
                given = {name: from_json(value, dtypes[signature][name]) for name, value in body["inputs"].items()}
                outputs = {name: to_json(name, value) for name, value in model.predict(signature, given).items()}
            except (SessionError, KeyError, ValueError) as error:
                return self.answer(400, {"error": str(error)})
            # With one output there is no name around it.
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


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        if request.model_spec.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request.model_spec.name}")
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            outputs = self.model.predict(request.model_spec.signature_name, inputs)
        except SessionError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return answer


def main(directory):
    model = Model(directory)
    loaded = tf.saved_model.load(directory)
    dtypes = {
        name: {key: spec.dtype for key, spec in function.structured_input_signature[1].items()}
        for name, function in loaded.signatures.items()
    }
    rest = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(model, dtypes))
    served = grpc.server(ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(model), served)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    print(json.dumps({"rest": rest.server_address[1], "grpc": port}), flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
