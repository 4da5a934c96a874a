"""The client with crafted answers: each that is not what the signature returns is named."""

import json
import re

import numpy as np
import pytest
from hamlet import LINE, VOCABULARY

pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason="needs pip install tensorflow-serving-api")

from raw_server import GrpcAnswers, RestAnswers, http_answer
from server_answers import answers, as_json, as_message, texts

import keras_seq as ks
from keras_seq_export import Client, ServingError, export_saved_model, export_tflite
from keras_seq_export.vocabulary_limits import MOST_BYTES, MOST_TOKENS, require_exportable


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


@pytest.fixture(params=[RestAnswers, GrpcAnswers])
def answer_with(request):
    """Starts a server that gives the answers, and returns its address."""
    server = request.param()

    def address_of(*outputs):
        encoded = (lambda one: http_answer(as_json(one))) if request.param is RestAnswers else as_message
        server.answers = [encoded(one) for one in outputs]
        return server.address

    yield address_of
    server.close()


def start_of(vocabulary):
    return answers()["start"] | {"vocabulary_bytes": texts(vocabulary.to_bytes())}


def test_a_vocabulary_of_the_most_bytes_is_read(answer_with):
    """Over REST it has 22 MB, in base64."""
    tokens = [f"{number:05}{'é' * 8_000}" for number in range(1040)]
    vocabulary = ks.Vocabulary.from_tokens(["", "[UNK]", "<s>", "<eos>", *tokens])
    assert 0.98 * MOST_BYTES < len(vocabulary.to_bytes()) <= MOST_BYTES
    require_exportable(vocabulary)
    with Client(answer_with(start_of(vocabulary)), "shakespeare", version=1) as client:
        assert client.vocabulary == vocabulary


@pytest.fixture(scope="module")
def most_tokens():
    return ks.Vocabulary(["<pad>", "<unk>", "<s>", "<eos>", *(f" {number}" for number in range(MOST_TOKENS - 4))])


@pytest.mark.slow
def test_the_logits_of_the_most_tokens_are_read(answer_with, most_tokens):
    """Over REST they have 10 MB, and 20 from a server that writes every digit of a float64."""
    require_exportable(most_tokens)
    logits = np.random.default_rng(1).normal(size=(1, MOST_TOKENS)).astype(np.float32)
    address = answer_with(start_of(most_tokens), answers()["decode"] | {"logits": logits})
    with Client(address, "shakespeare", version=1) as client:
        np.testing.assert_array_equal(client(5, client.initial_states())[0], logits[0])


def test_an_answer_may_be_as_long_as_the_request(answer_with):
    """A text of 400,000 tokens to score, and 32 texts to write with 35,000 tokens each: exports with a large `max_length`."""
    text = LINE * 10_000
    ids = VOCABULARY.encode(text)[None].astype(np.int32)
    scores = np.random.default_rng(1).normal(size=ids.shape).astype(np.float32)
    scored = answers()["score"] | {"token_ids": ids, "log_probabilities": scores}
    with Client(answer_with(answers()["start"], scored), "shakespeare", version=1) as client:
        np.testing.assert_array_equal(client.score(text).log_probabilities, scores[0])
    ids, count = np.tile(ids[:, :35_000], (32, 1)), np.full(32, 35_000, np.int32)
    rows = {"text": texts(*[text[:35_000].encode()] * 32), "finish_reason": texts(*[b"length"] * 32)}
    written = {"token_ids": ids, "length": count, **rows, "model_id": texts(*[b"a" * 64] * 32)}
    address = answer_with(answers()["start"], written)
    with Client(address, "shakespeare", version=1) as client:
        assert client.write([""] * 32, max_tokens=35_000)[31] == text[:35_000]
        if address.startswith("grpc"):
            return  # The message has 6 MB.
        with pytest.raises(ServingError, match=r"larger than 8 MiB or .* values, the most that is expected"):
            client.write([""] * 32, max_tokens=10)


def test_a_vocabulary_that_could_not_be_read_is_refused_before_an_export(tmp_path, most_tokens, tiny_model):
    model = tiny_model(VOCABULARY)
    more = ks.Vocabulary([*most_tokens.tokens, " more"])
    longer = ks.Vocabulary.from_tokens(["", "[UNK]", "<s>", "<eos>", "é" * 2**23])
    for vocabulary, received in ((more, "524,289 tokens"), (longer, f"{len(longer)} tokens, 16,777,")):
        expected = f"`vocabulary` must be of at most 524,288 tokens and 16,777,216 bytes to be exported.*{received}"
        for export in (export_tflite, export_saved_model):
            with pytest.raises(ValueError, match=expected):
                export(model, vocabulary, tmp_path / "export")
    assert not list(tmp_path.iterdir())
