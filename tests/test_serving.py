"""The client against a server on loopback that runs the real export in TensorFlow's C++ session; see loopback_server.py."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq_export import Client, ServingError, export_saved_model
from keras_seq_export.serving_files import prediction_log, write_warm_up

pytest.importorskip("tensorflow_serving", reason="needs pip install keras_seq[grpc]")

TEXT = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return ks.language_model(len(VOCABULARY), units=[16, 12], embedding_dim=8)


@pytest.fixture(scope="module")
def ports(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("serving") / "shakespeare"
    report = export_saved_model(model, VOCABULARY, directory)
    command = [sys.executable, Path(__file__).with_name("loopback_server.py"), report["path"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield json.loads(server.stdout.readline())
        server.kill()


@pytest.fixture(params=["http", "grpc"])
def address(request, ports):
    return f"{request.param}://127.0.0.1:{ports['rest' if request.param == 'http' else 'grpc']}"


def test_texts_are_those_of_keras(address, model):
    client = Client(address, "shakespeare", timeout=60)
    settings = {"temperature": 0.8, "top_k": 9, "top_p": 0.95, "min_p": 0.01}
    prompts = ["", "to be", "not\n"]
    texts = client.write(prompts, max_tokens=[30, 10, 20], seed=[1, 2, 3], **settings)
    for row, (prompt, length) in enumerate(zip(prompts, (30, 10, 20), strict=True)):
        expected = ks.sample(model, VOCABULARY, prompt, max_tokens=length, seed=row + 1, **settings)
        assert texts[row] == expected
        assert texts[row].token_ids == expected.token_ids
        assert texts[row].finish_reason == expected.finish_reason
    assert client.write("to be", max_tokens=10, seed=2, **settings) == texts[1]


def test_a_text_comes_token_by_token_with_every_option(address, model):
    client = Client(address, "shakespeare", vocabulary=VOCABULARY, timeout=60)
    long = (TEXT * 4)[:150]
    for options in (
        {"seed": 3},
        {"seed": 4, "temperature": 0.7, "top_k": 5, "stop": "e"},
        {"seed": 5, "repetition_penalty": 1.3},
        {"seed": 6, "bias": {"t": 2.0}, "num_samples": 2},
        {"num_beams": 2},
    ):
        pieces = list(client.generate(long, max_tokens=12, **options))
        assert pieces == list(ks.generate(model, VOCABULARY, long, max_tokens=12, **options))


def test_scores_are_those_of_keras(address, model):
    found, expected = (
        one(TEXT) for one in (Client(address, "shakespeare").score, lambda t: ks.score(model, VOCABULARY, t))
    )
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-5)


def test_what_the_server_refuses_is_told(address):
    client = Client(address, "shakespeare")
    for options, words in (
        ({"prompts": "x"}, "`prompt` must hold only characters"),
        ({"max_tokens": 0}, "`max_tokens` must be a positive integer"),
        ({"max_tokens": -5}, "`max_tokens` must be a positive integer"),
        ({"max_tokens": 2_000_000}, "at most 10000 tokens together"),
        ({"temperature": float("nan")}, "`temperature` must be (from 0|finite)"),
    ):
        with pytest.raises(ServingError, match=words):
            client.write(**options)
    with pytest.raises(TypeError, match="`heat` is no option of the server"):
        client.write("to", heat=1)


def test_another_vocabulary_is_refused(address):
    with pytest.raises(ServingError, match="another vocabulary: SHA-256"):
        Client(address, "shakespeare", vocabulary=ks.Vocabulary.from_text("ab"))


def test_another_model_is_refused(address):
    with pytest.raises(ServingError, match="Servable not found"):
        Client(address, "goethe")


def test_no_server_and_no_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for scheme in ("http", "grpc"):
            with pytest.raises(ServingError, match=r"no (server at|answer from)"):
                Client(f"{scheme}://127.0.0.1:{port}", "shakespeare", timeout=0.5)
        silent.listen()
        with pytest.raises(ServingError, match=r"no answer from .* within 0\.2 seconds"):
            Client(f"http://127.0.0.1:{port}", "shakespeare", timeout=0.2)


@pytest.mark.parametrize("wrong", ["localhost:8501", "ftp://localhost", "http://"])
def test_a_wrong_address_is_refused(wrong):
    with pytest.raises(ValueError, match="`address` must be"):
        Client(wrong, "shakespeare")


def test_many_clients_get_the_serial_answers(ports):
    address = f"http://127.0.0.1:{ports['rest']}"

    def ask(number):
        return Client(address, "shakespeare", timeout=120).write(
            ["to be", "", TEXT[:20]], max_tokens=15, seed=[number, 7, number + 1]
        )

    serial = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == serial


def test_the_warm_up_is_what_the_server_reads(tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    write_warm_up(
        tmp_path, {"score": {"text": np.array([b"to be"], object)}, "decode": {"token": np.arange(300, dtype=np.int32)}}
    )
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(tmp_path / "tf_serving_warmup_requests"))
    ]
    requests = [record.predict_log.request for record in records]
    assert [request.model_spec.signature_name for request in requests] == ["score", "decode"]
    assert tf.make_ndarray(requests[0].inputs["text"]).tolist() == [b"to be"]
    assert tf.make_ndarray(requests[1].inputs["token"]).tolist() == list(range(300))
    assert records[0].SerializeToString() == prediction_log("score", {"text": np.array([b"to be"], object)})


def test_a_client_is_closed_and_writes_nothing_for_nothing(address):
    with Client(address, "shakespeare") as client:
        assert client.write([]) == []
        with pytest.raises(ValueError, match=r"`seed` must be a number \(int64\), or a list of 2"):
            client.write(["to", "be"], seed=[1, 2, 3])
        for name, wrong in (
            ("max_tokens", 2**40),
            ("max_tokens", 1.7),
            ("seed", 2**63),
            ("top_k", "5"),
            ("temperature", None),
        ):
            with pytest.raises(ValueError, match=f"`{name}` must be a number"):
                client.write("to", **{name: wrong})


def test_the_server_draws_token_by_token(address):
    client = Client(address, "shakespeare")
    predict, used = client._transport.predict, []

    def counting(signature, inputs):
        used.append(signature)
        return predict(signature, inputs)

    client._transport.predict = counting
    list(client.generate("to be", max_tokens=3, seed=1))
    assert used[0] == "prefill"
    assert set(used[1:]) == {"sample"}
