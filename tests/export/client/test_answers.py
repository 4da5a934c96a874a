"""The client with crafted answers: each that is not what the signature returns is named."""

import json
import re

import pytest
from hamlet import LINE, VOCABULARY

pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason="needs pip install tensorflow-serving-api")

from raw_server import GrpcAnswers, RestAnswers, http_answer
from server_answers import answers, as_json, as_message

from keras_seq_export import Client, ServingError


@pytest.mark.parametrize("server_class", [RestAnswers, GrpcAnswers])
@pytest.mark.parametrize("of_other", [answers(model_id=b"b" * 64)["sample"], answers()["sample"]])
def test_each_token_of_a_stream_is_of_one_model(of_other, server_class):
    """The server is replaced between two tokens, by another model or by an export that does not name its model."""
    if of_other["model_id"] == b"a" * 64:
        of_other = {name: value for name, value in of_other.items() if name != "model_id"}
    encoded = (lambda one: http_answer(as_json(one))) if server_class is RestAnswers else as_message
    server = server_class()
    server.answers = [encoded(one) for one in (answers()["start"], answers()["sample"], of_other)]
    with Client(server.address, "shakespeare", version=1) as client:
        text = client.generate(max_tokens=5, seed=1)
        next(text)
        with pytest.raises(ServingError, match=r"has another model now .* because states belong to one model"):
            next(text)
    server.close()


def test_an_export_of_an_earlier_version_is_read():
    server = RestAnswers()
    old = [{name: value for name, value in answers()[one].items() if name != "model_id"} for one in ("start", "score")]
    server.answers = [http_answer(as_json(one)) for one in old]
    with Client(server.address, "shakespeare", version=1) as client:
        assert client.score(LINE[:10]).token_ids.tolist() == VOCABULARY.encode(LINE[:10]).tolist()
    server.close()


@pytest.mark.parametrize(
    ("signature", "change", "words"),
    [
        (
            "sample",
            {"next_token": [len(VOCABULARY)]},
            f"`next_token` must be from 0 to {len(VOCABULARY) - 1}. Received",
        ),
        ("sample", {"next_token": [-1]}, "`next_token` must be from 0 to"),
        ("sample", {"next_token": [5.0]}, "`next_token` must be int32 of the shape (1). Received: float64"),
        ("sample", {"log_probability": [float("nan")]}, "`log_probability` must be numbers, but has NaN"),
        ("sample", {"state_1": [[0.5] * 11]}, "`state_1` must be float32 of the shape (1, 12)"),
        ("sample", {"state_0": None}, "`state_0` is missing"),
        ("decode", {"logits": [[0.5] * (len(VOCABULARY) + 1)]}, "`logits` must be float32 of the shape"),
        ("serving_default", {"token_ids": [[10**6] * 10]}, "`token_ids` must be from 0 to"),
        ("serving_default", {"length": [11]}, "`length` must be from 0 to 10. Received: 11"),
        ("serving_default", {"finish_reason": ["bored"]}, "`finish_reason` must be one of eos, length"),
        ("score", {"token_ids": [[5] * 10]}, "it has the tokens of another text"),
    ],
)
def test_a_malformed_answer_is_named(signature, change, words):
    outputs = json.loads(as_json(answers()[signature]))["outputs"] | change
    content = json.dumps({"outputs": {name: value for name, value in outputs.items() if value is not None}}).encode()
    server = RestAnswers()
    server.answers = [http_answer(as_json(answers()["start"])), http_answer(content)]
    with Client(server.address, "shakespeare", version=1) as client:
        call = {
            "sample": lambda: next(client.generate(max_tokens=3, seed=1)),
            "decode": lambda: client(5, client.initial_states()),
            "serving_default": lambda: client.write("to", max_tokens=20),
            "score": lambda: client.score(LINE[:10]),
        }[signature]
        with pytest.raises(ServingError, match=rf"the answer of {signature} is malformed: {re.escape(words)}"):
            call()
    server.close()
