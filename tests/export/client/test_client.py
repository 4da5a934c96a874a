"""The client with a server on loopback that runs the export in TensorFlow's C++ session; see loopback_server.py."""

import functools
import re
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paths
import pytest
import requests
from hamlet import LINE, VOCABULARY, two_layers
from served_model import serving

import keras_seq as ks
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.score import score
from keras_seq_export import Client, ServingError
from keras_seq_export.client.transports import _newest
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.saved_model.endpoints import model_id, write_signatures

grpc = pytest.importorskip("grpc", reason="needs pip install tensorflow-serving-api")
model_service_pb2_grpc = pytest.importorskip("tensorflow_serving.apis.model_service_pb2_grpc")


@pytest.fixture(scope="module")
def step():
    """The model in Keras, traced once."""
    return KerasStep(two_layers())


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    directory = tmp_path_factory.mktemp("serving") / "shakespeare" / "1"
    write_signatures(GraphStep(two_layers(), VOCABULARY), VOCABULARY, directory, max_length=10_000)
    with serving(directory) as of_server:
        yield of_server


@pytest.fixture(params=["http", "grpc"])
def address(request, ports):
    return f"{request.param}://127.0.0.1:{ports['rest' if request.param == 'http' else 'grpc']}"


def test_write_returns_the_texts_of_keras(address, step):
    client = Client(address, "shakespeare", timeout=60)
    settings = {"temperature": 0.8, "top_k": 9, "top_p": 0.95, "min_p": 0.01}
    prompts = ["", "to be", "not\n"]
    texts = client.write(prompts, max_tokens=[30, 10, 20], seed=[1, 2, 3], **settings)
    for row, (prompt, length) in enumerate(zip(prompts, (30, 10, 20), strict=True)):
        expected = sample(step, VOCABULARY, prompt, max_tokens=length, seed=row + 1, **settings)
        assert texts[row] == expected
        assert texts[row].token_ids == expected.token_ids
        assert texts[row].finish_reason == expected.finish_reason
    assert client.write("to be", max_tokens=10, seed=2, **settings) == texts[1]


def test_generate_yields_the_tokens_of_keras_with_every_option(address, step):
    client = Client(address, "shakespeare", vocabulary=VOCABULARY, timeout=60)
    long = (LINE * 4)[:150]
    for options in (
        {"seed": 3},
        {"seed": 4, "temperature": 0.7, "top_k": 5, "stop": "e"},
        {"seed": 5, "repetition_penalty": 1.3},
        {"seed": 6, "bias": {"t": 2.0}, "num_samples": 2},
        {"num_beams": 2},
    ):
        pieces = list(client.generate(long, max_tokens=12, **options))
        assert pieces == list(Generation(step, VOCABULARY, long, max_tokens=12, **options))


def test_keras_and_the_client_continue_each_others_texts(address, step):
    client = Client(address, "shakespeare", timeout=60)
    options = {"temperature": 0.0, "bias": {"<eos>": -np.inf}}
    whole = sample(step, VOCABULARY, "to be", max_tokens=30, **options)
    first = client.generate("to be", max_tokens=10, **options)
    parts = "".join(first)
    second = sample(step, VOCABULARY, states=first.states, max_tokens=10, **options)
    third = client.generate(states=second.states, max_tokens=10, **options)
    assert parts + second + "".join(third) == whole
    for found, expected in zip(third.states.arrays, whole.states.arrays, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    arrays = [np.linspace(-1, 1, 16), np.ones((1, 12))]
    settings = {"seed": 4, "max_tokens": 12, "num_samples": 2}
    for states in (arrays, second.states):
        found = client.generate("not", states=states, **settings).texts()
        assert found == sample(step, VOCABULARY, "not", states=states, **settings)


def test_states_that_do_not_fit_are_refused_without_a_request(address):
    client = Client(address, "shakespeare", timeout=60)
    text = client.write("to be", max_tokens=3)
    client._transport.predict = None
    message = (
        r"`states` must be a list of 2 arrays, of the shapes \[\(1, 16\), \(1, 12\)\]. Received: states=\[\(16,\)\]"
    )
    with pytest.raises(ValueError, match=message):
        client.generate("to", states=[np.zeros(16)])
    with pytest.raises(ValueError, match="the server keeps the states of a text that `write` returns; use `generate`"):
        _ = text.states
    with pytest.raises(TypeError, match=r"`write` has no option `states`; .*; `generate` has more"):
        client.write("to", states=[np.zeros(16), np.zeros(12)])


def test_score_is_that_of_keras(address, step):
    found, expected = (
        one(LINE) for one in (Client(address, "shakespeare").score, lambda t: score(step, VOCABULARY, t))
    )
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, atol=1e-5)


def test_an_error_of_the_server_is_shown_without_the_graph(address):
    client = Client(address, "shakespeare")
    with pytest.raises(ServingError) as refused:
        client.write("to", max_tokens=2_000_000)
    message = "`max_tokens` must be a positive integer, at most 10000. Received: [2000000]"
    assert str(refused.value) == f"shakespeare at {address}: {message}"
    with pytest.raises(ServingError, match=r'"sing" not found'):
        client._transport.predict("sing", {"token": np.zeros(1, np.int32)})
    if address.startswith("http"):
        with pytest.raises(ServingError, match="`uniform` must be finite, as all numbers in JSON"):
            client._transport.predict("sample", {"uniform": np.array([np.nan], np.float32)})


def test_invalid_texts_and_tokens_are_refused_without_a_request(address):
    client = Client(address, "shakespeare")
    client._transport.predict = None
    for call, argument in ((client.write, "prompt"), (client.score, "text"), (client.generate, "prompt")):
        with pytest.raises(ValueError, match=f"`{argument}` must hold only.*'x'"):
            call("x")
        with pytest.raises(ValueError, match=f"`{argument}` must hold no lone surrogate"):
            call("\ud800")
        with pytest.raises(ValueError, match=f"`{argument}` must be a string"):
            call(5)
    with pytest.raises(ValueError, match="`prompt` must be a string"):
        client.write(["to", None])
    for call, name in ((lambda: client(0.9, {}), "token"), (lambda: client.prefill([3, 0.9], {}), "tokens")):
        with pytest.raises(ValueError, match=f"`{name}` must be integers, the ids of tokens"):
            call()


def test_the_client_stays_with_the_version_it_found(address):
    assert Client(address, "shakespeare").version == 1  # Version 2 is being loaded.
    assert Client(address, "shakespeare", version=1).write("to", max_tokens=3, temperature=0)
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(shakespeare, 3\)$"):
        Client(address, "shakespeare", version=3)
    for wrong in (-1, True, 1.0, 2**63, "latest"):
        with pytest.raises(ValueError, match="`version` must be an integer from 0 to"):
            Client(address, "shakespeare", version=wrong)


def test_the_newest_version_is_the_highest_that_is_available():
    assert _newest({9: "AVAILABLE", 10: "AVAILABLE", 11: "LOADING"}, "hamlet", "home") == 10
    with pytest.raises(ServingError, match=r"hamlet at home has no available version: 1 is LOADING, 2 is END"):
        _newest({1: "LOADING", 2: "END"}, "hamlet", "home")


def test_many_prompts_are_several_requests(address):
    client = Client(address, "shakespeare", timeout=60)
    prompts = [LINE[start : start + 5] for start in range(35)]
    texts = client.write(prompts, max_tokens=4, seed=list(range(35)))
    assert texts[34] == client.write(prompts[34], max_tokens=4, seed=34)
    assert len(texts) == 35
    assert client.write(prompts[:2] * 2, max_tokens=40) != client.write(prompts[:2] * 2, max_tokens=40)


def test_another_vocabulary_is_refused(address):
    with pytest.raises(ServingError, match="version 1, has another vocabulary: SHA-256"):
        Client(address, "shakespeare", vocabulary=ks.Vocabulary.from_text("ab"))


@pytest.mark.parametrize("name", ["goethe", "a/b c"])
def test_another_model_is_refused(name, address):
    with pytest.raises(ServingError, match="Could not find any versions of model"):
        Client(address, name)


def test_no_server_and_no_answer(ports):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for scheme in ("http", "grpc"):
            with pytest.raises(ServingError, match=r"no answer from"):
                Client(f"{scheme}://127.0.0.1:{port}", "shakespeare", timeout=0.5)
        silent.listen()
        for scheme in ("http", "grpc"):
            with pytest.raises(ServingError, match=r"no answer from .* within 0\.2 seconds"):
                Client(f"{scheme}://127.0.0.1:{port}", "shakespeare", timeout=0.2)
    for scheme, port, words in (
        ("http", ports["grpc"], "its REST port, usually 8501"),
        ("grpc", ports["rest"], "its gRPC port, usually 8500"),
    ):
        with pytest.raises(ServingError, match=words):
            Client(f"{scheme}://127.0.0.1:{port}", "shakespeare", timeout=5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "answered 502 Bad Gateway without JSON"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", "shakespeare at .*: 503 Busy$"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "answered 200 OK without a JSON object, which TensorFlow Serving always returns",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is not TensorFlow Serving: it reports no versions"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", r"no answer from .* within 0\.5 seconds"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\n"
            + b'{"model_version_status":[{"version":"x","state":"END"}]}',
            "is not TensorFlow Serving: it reports no versions",
        ),
        (b"", r"no answer from .*\(.*closed connection without response.*\): check that the server is running"),
    ],
)
def test_a_server_that_is_not_tensorflow_serving(answer, words):
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def once():
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.sendall(answer)
            if b"99" not in answer:
                connection.close()
            return connection

        kept = pool.submit(once)
        with pytest.raises(ServingError, match=words):
            Client(f"http://127.0.0.1:{listening.getsockname()[1]}", "shakespeare", timeout=0.5)
        kept.result().close()


@pytest.mark.parametrize(
    "wrong",
    [
        "localhost:8501",
        "ftp://localhost",
        "http://",
        "http://localhost:99999",
        "grpc://localhost:port",
        "",
        8501,
        "grpc://localhost",
        "grpc://localhost:1/x",
        "http://localhost:1?x=1",
    ],
)
def test_an_invalid_address_is_refused(wrong):
    with pytest.raises(ValueError, match="`address` must be"):
        Client(wrong, "shakespeare")


@pytest.mark.parametrize("wrong", [0, -1, 1e6, float("inf"), float("nan"), None, "5", True])
def test_an_invalid_timeout_is_refused(wrong):
    with pytest.raises(ValueError, match="`timeout` must be above 0 and at most 86,400 seconds"):
        Client("http://localhost:8501", "shakespeare", timeout=wrong)


def test_the_curl_commands_of_the_recipes_work(ports):
    page = (paths.REPOSITORY / "docs/recipes.md").read_text(encoding="utf-8")
    lines = re.findall(r"curl -d '(\{[^']*\})'(?: \\\n)?\s+localhost:8501(/\S+)", page)
    assert len(lines) == 3
    for body, path in lines:
        answer = requests.post(
            f"http://127.0.0.1:{ports['rest']}{path}", data=body.replace("ROMEO:", "to be"), timeout=60
        )
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() in ({"outputs"}, {"predictions"})


def test_an_overloaded_server_is_reported():
    class Busy(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):
            context.abort(grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue is full")

    server = grpc.server(ThreadPoolExecutor(1))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Busy(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    message = (
        r"\(The batch scheduling queue is full\): check that the server is running, .* and that it is not overloaded"
    )
    with pytest.raises(ServingError, match=message):
        Client(f"grpc://127.0.0.1:{port}", "shakespeare")
    server.stop(None)


def test_many_clients_get_what_each_would_get_alone(address, step):
    """The server batches what arrives within three milliseconds, so rows of several clients share a batch."""

    def ask(number):
        with Client(address, "shakespeare", timeout=120) as client:
            prompt = LINE[number : 2 * number + 3]
            written = client.write(["", prompt], max_tokens=[5, 15], seed=[number, number + 1])
            return [*written, "".join(client.generate(prompt, max_tokens=10, seed=number, temperature=0.7))]

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    for number, answer in enumerate(answers):
        prompt = LINE[number : 2 * number + 3]
        assert answer == [
            sample(step, VOCABULARY, "", max_tokens=5, seed=number),
            sample(step, VOCABULARY, prompt, max_tokens=15, seed=number + 1),
            sample(step, VOCABULARY, prompt, max_tokens=10, seed=number, temperature=0.7),
        ]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"heat": 1}, TypeError, "`write` has no option `heat`; its options are max_tokens, temperature"),
        ({"prompt": "a"}, TypeError, "`write` has no option `prompt`"),
        ({"seed": [1, 2, 3]}, ValueError, "`seed` must be one value or a list of 2"),
        ({"seed": 2**64}, ValueError, "`seed` must be a 64-bit integer"),
        ({"seed": "7"}, ValueError, "`seed` must be a 64-bit integer"),
        ({"max_tokens": 1.7}, ValueError, "`max_tokens` must be an integer from 1 to 2,147,483,647"),
        ({"max_tokens": 10**10}, ValueError, "`max_tokens` must be an integer from 1 to 2,147,483,647"),
        ({"max_tokens": [3, 0]}, ValueError, "`max_tokens` must be an integer from 1 to 2,147,483,647"),
        ({"top_k": "5"}, ValueError, "`top_k` must be 0"),
        ({"temperature": None}, ValueError, "`temperature` must be a number"),
        ({"temperature": float("nan")}, ValueError, "`temperature` must be a number"),
        ({"temperature": 1e40}, ValueError, "`temperature` must be from 0"),
        ({"min_p": np.array([0.5, 2])}, ValueError, "`min_p` must be from 0"),
    ],
)
def test_invalid_options_are_refused_without_a_request(options, error, words, ports):
    client = Client(f"http://127.0.0.1:{ports['rest']}", "shakespeare")
    client._transport.predict = None
    with pytest.raises(error, match=words):
        client.write(["to", "be"], **options)


def test_no_prompts_give_no_texts(address):
    with Client(address, "shakespeare") as client:
        assert client.write([]) == []


def test_large_numbers_act_as_in_keras(address, step):
    client = Client(address, "shakespeare")
    options = {"max_tokens": np.int64(20), "top_k": 10**12, "seed": np.uint64(2**64 - 3)}
    assert client.write("to be", **options) == sample(step, VOCABULARY, "to be", **options)
    assert "".join(client.generate("to be", **options)) == client.write("to be", **options)


def test_invalid_arguments_and_a_missing_server_are_reported():
    with pytest.raises(ValueError, match="`vocabulary` must be a Vocabulary or None"):
        Client("http://localhost:1", "shakespeare", vocabulary="vocab.txt")
    for name in ("", None, 3):
        with pytest.raises(ValueError, match="`model` must be the model's name"):
            Client("http://localhost:1", name)
    with pytest.raises(
        ServingError, match=r"from http://127.0.0.1:1 \(.*refused.*\): check that the server is running"
    ) as refused:
        Client("http://user:secret@127.0.0.1:1", "shakespeare")
    assert "secret" not in str(refused.value)


def test_the_server_samples_each_token(address):
    client = Client(address, "shakespeare")
    predict, used = client._transport.predict, []

    def counting(signature, *arguments):
        used.append(signature)
        return predict(signature, *arguments)

    client._transport.predict = counting
    list(client.generate("to be", max_tokens=3, seed=1))
    assert used[0] == "prefill"
    assert set(used[1:]) == {"sample"}


def test_a_closed_client_stays_closed(address):
    client = Client(address, "shakespeare")
    text = client.generate("to", max_tokens=5, seed=1)
    next(text)
    client.close()
    client.close()
    for call in (
        lambda: client.write("to"),
        lambda: client.score("to"),
        lambda: client.generate("to"),
        lambda: client(3, client.initial_states()),
        lambda: next(text),
    ):
        with pytest.raises(ServingError, match=f"^the client of shakespeare at {address} is closed: create a new one$"):
            call()


def wait_for_connection(client):
    """Waits until gRPC has found the server again."""
    for _ in range(100):
        try:
            client.score("the")
        except ServingError as error:
            if "no answer" in str(error):
                time.sleep(0.1)
                continue
        return


def test_the_id_of_a_model_is_that_of_its_weights_and_its_vocabulary():
    model, other = two_layers(), two_layers()
    other.get_layer("logits").bias.assign_add(np.ones(len(VOCABULARY)))
    reversed_end = ks.Vocabulary([*VOCABULARY.tokens[:-2], *VOCABULARY.tokens[:-3:-1]])
    ids = [model_id(GraphStep(model, VOCABULARY), one) for one in (VOCABULARY, VOCABULARY, reversed_end)]
    assert ids[0] == ids[1]
    assert len({*ids, model_id(GraphStep(other, VOCABULARY), VOCABULARY)}) == 3


@pytest.mark.slow
def test_a_stream_notices_a_server_that_came_back_with_another_model(small_saved_model, tmp_path):
    """It has the same version, vocabulary and states of the same sizes; only its id differs."""
    with serving(small_saved_model) as ports:
        addresses = [f"http://127.0.0.1:{ports['rest']}", f"grpc://127.0.0.1:{ports['grpc']}"]
        clients = [Client(address, "shakespeare", timeout=60) for address in addresses]
        texts = [client.generate("the cat", max_tokens=9, seed=1) for client in clients]
        for text in texts:
            next(text)
    graph = shutil.copytree(small_saved_model, tmp_path / "1") / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(clients[0]._model_id, clients[0]._model_id[::-1]))
    with serving(graph.parent, ports):
        for client, text in zip(clients, texts, strict=True):
            wait_for_connection(client)
            for call in (text.texts, client.write, functools.partial(client.score, "the")):
                with pytest.raises(ServingError, match="has another model now than when this client was created"):
                    call()
