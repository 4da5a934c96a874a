"""Answers as a server gives them for a small model, to be damaged by tests."""

import json

import numpy as np
import tensorflow as tf
from hamlet import LINE, VOCABULARY
from loopback_server import to_json
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

UNITS = (16, 12)
TEXT = LINE[:10]
IDS = VOCABULARY.encode(TEXT)


def answers(model_id=b"a" * 64):
    """Returns the outputs of each signature for one row, by signature."""
    random = np.random.default_rng(0)
    states = {f"state_{index}": random.normal(size=(1, units)).astype(np.float32) for index, units in enumerate(UNITS)}
    logits = random.normal(size=(1, len(VOCABULARY))).astype(np.float32)
    one, row = np.array([len(IDS)], np.int32), IDS[None].astype(np.int32)
    number = np.array([-1.5], np.float32)
    outputs = {
        "start": {"vocabulary_bytes": texts(VOCABULARY.to_bytes()), "max_tokens": np.array([200], np.int32), **states},
        "serving_default": {
            "text": texts(TEXT.encode()),
            "token_ids": row,
            "length": one,
            "log_probability": number,
            "finish_reason": texts(b"length"),
        },
        "score": {
            "log_probability": number,
            "length": one,
            "token_ids": row,
            "log_probabilities": random.normal(size=row.shape).astype(np.float32),
        },
        "decode": {"logits": logits, **states},
        "prefill": {"logits": logits, **states},
        "sample": {"next_token": row[:, 0], "log_probability": number, **states},
    }
    return {name: values | {"model_id": texts(model_id)} for name, values in outputs.items()}


def texts(*values):
    """Returns an array of `bytes` objects."""
    return np.array(values, object)


def as_json(outputs):
    """Returns the content of a REST answer."""
    return json.dumps({"outputs": {name: to_json(name, value) for name, value in outputs.items()}}).encode()


def as_message(outputs):
    """Returns the content of a gRPC answer."""
    answer = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return answer.SerializeToString()


def versions_as_json():
    """Returns a REST answer that says that version 1 is available."""
    return json.dumps({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]}).encode()


def versions_as_message():
    """Returns the same over gRPC."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    answer.model_version_status.add(version=1, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    return answer.SerializeToString()
