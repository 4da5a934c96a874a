"""The client with damaged answers: a ServingError or a result, in bounded memory and time."""

import json
import time

import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason="needs pip install tensorflow-serving-api")

from hamlet import VOCABULARY
from peak_memory import peak_memory
from raw_server import GrpcAnswers, RestAnswers, http_answer
from server_answers import TEXT, answers, as_json, as_message, versions_as_json, versions_as_message

from keras_seq_export import Client, ServingError
from keras_seq_export.client.answers import START_SIZE

ANSWERS = answers()
SECONDS, MEGABYTES = 10, 300
CALLS = {
    "start": lambda client: None,
    "serving_default": lambda client: client.write("to", max_tokens=20, seed=1),
    "score": lambda client: client.score(TEXT),
    "decode": lambda client: client(5, client.initial_states()),
    "prefill": lambda client: client.prefill([5, 6], client.initial_states()),
    "sample": lambda client: "".join(client.generate("", max_tokens=3, seed=1)),
}
# What replaces a value in JSON.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([10**30, -1, 2**31, "AAAA", {"b64": "AA=="}, {"b64": "?"}, [], [[]], {}]),
    st.sampled_from(["\ud800", [1, [2]], [True], [[[1]]]]),
    st.lists(st.integers() | st.floats(), max_size=4),
)


@pytest.fixture(scope="module")
def rest():
    server = RestAnswers()
    yield server
    server.close()


@pytest.fixture(scope="module")
def grpc():
    server = GrpcAnswers()
    yield server
    server.close()


worst = {"seconds": 0.0, "megabytes": 0.0, "answers": 0, "refused": 0}


def bounded(call):
    """Calls; a ServingError is expected. Fails after `SECONDS` or above `MEGABYTES`."""
    began, message = time.perf_counter(), ""
    with peak_memory() as used:
        try:
            call()
        except ServingError as error:
            message = str(error)
            worst["refused"] += 1
        seconds, megabytes = time.perf_counter() - began, used()
    worst.update(seconds=max(worst["seconds"], seconds), megabytes=max(worst["megabytes"], megabytes))
    worst["answers"] += 1
    assert len(message) < 3_000
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


def ask(address, signature):
    with Client(address, "shakespeare", version=1, timeout=2) as client:
        CALLS[signature](client)


@st.composite
def damaged_json(draw):
    """A signature, and its answer with a value replaced, removed or added anywhere, or with bytes changed."""
    signature = draw(st.sampled_from(sorted(CALLS)))
    body = json.loads(as_json(ANSWERS[signature]))
    place = body
    while draw(st.integers(0, 4)) and place and isinstance(place, dict | list):
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        parent, place = place, place[key]
    if place is body:
        return signature, damaged_bytes(draw, json.dumps(body).encode())
    action = draw(st.sampled_from(["replace", "remove", "wrap", "repeat"]))
    if action == "remove":
        del parent[key]
    else:
        parent[key] = {"replace": draw(VALUES), "wrap": [place], "repeat": [place, place]}[action]
    return signature, json.dumps(body).encode()


@st.composite
def damaged_message(draw):
    """The same over gRPC: with outputs removed or exchanged, or with bytes changed."""
    signature = draw(st.sampled_from(sorted(CALLS)))
    outputs = dict(ANSWERS[signature])
    name = draw(st.sampled_from(sorted(outputs)))
    action = draw(st.sampled_from(["bytes", "bytes", "remove", "exchange", "slice", "cast"]))
    if action == "remove":
        del outputs[name]
    elif action == "exchange":
        outputs[name] = outputs[draw(st.sampled_from(sorted(outputs)))]
    elif action == "slice":
        outputs[name] = outputs[name][..., :-1]
    elif action == "cast" and outputs[name].dtype != object:
        outputs[name] = outputs[name].astype(draw(st.sampled_from(["float64", "int64", "bool", "int8", "float16"])))
    message = as_message(outputs)
    return signature, damaged_bytes(draw, message) if action == "bytes" else message


def damaged_bytes(draw, content):
    """Returns bytes with some changed, cut off or inserted."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        if kind == "change" and changed:
            changed[position] = draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[position:]
        elif kind == "insert":
            changed[position:position] = draw(st.binary(max_size=6))
        else:
            del changed[position : position + draw(st.integers(1, 9))]
    return bytes(changed)


@fuzzed
@given(damaged_json())
def test_damaged_answers_over_rest(rest, damaged):
    signature, content = damaged
    rest.answers = [http_answer(as_json(ANSWERS["start"]))] * (signature != "start") + [http_answer(content)]
    bounded(lambda: ask(rest.address, signature))


@fuzzed
@given(damaged_message())
def test_damaged_answers_over_grpc(grpc, damaged):
    signature, message = damaged
    grpc.answers = [as_message(ANSWERS["start"])] * (signature != "start") + [message]
    bounded(lambda: ask(grpc.address, signature))


@fuzzed
@given(st.data())
def test_damaged_http(rest, data):
    """The status line and the headers are damaged too."""
    rest.answers = [damaged_bytes(data.draw, http_answer(as_json(ANSWERS["start"]))[:300])]
    bounded(lambda: Client(rest.address, "shakespeare", version=1, timeout=0.3).close())


@fuzzed
@given(st.data())
def test_damaged_versions(rest, grpc, data):
    rest.answers = [http_answer(damaged_bytes(data.draw, versions_as_json())), http_answer(as_json(ANSWERS["start"]))]
    grpc.answers = [damaged_bytes(data.draw, versions_as_message()), as_message(ANSWERS["start"])]
    for server in (rest, grpc):
        bounded(lambda server=server: Client(server.address, "shakespeare", timeout=2).close())


@pytest.fixture(scope="module", autouse=True)
def report(request):
    """Prints the counts and the largest memory and time seen; `pytest -s` shows them."""
    yield
    print({name: round(value, 2) for name, value in worst.items()})


MOST = START_SIZE.size - 100
LARGE = {
    "a list of lists": b'{"outputs": {"state_0": [' + b"[]," * 520_000 + b"[]]}}",
    "a list of objects": b'{"outputs": {"state_0": [' + b'{"":0},' * 520_000 + b"{}]}}" + b" " * (MOST - 4_000_000),
    "many keys": b'{"outputs": {"a":[{' + b",".join(b'"%d":1e1' % number for number in range(1_040_000)) + b"}]}}",
    "many outputs": b'{"outputs": {' + b",".join(b'"%d":[0]' % number for number in range(520_000)) + b"}}",
    "many strings": b'{"outputs": {"vocabulary_bytes": [' + b'"abcdefghijklmnopqrst",' * 1_040_000 + b'""]}}',
    "one wide character": '{"outputs": {"vocabulary_bytes": ["🙂'.encode() + b"a" * (MOST - 50) + b'"]}}',
    "one long string": b'{"outputs": {"text": ["' + b"a" * 20_000_000 + b'"' + b',""' * 1_000_000 + b"]}}",
    "more values than are read": b'{"outputs": {"state_0": [' + b"[]," * 2_750_000 + b"[]]}}",
    "deep": b'{"outputs": ' + b"[" * 8_000_000,
    "line feeds": b'{"outputs": {"vocabulary_bytes": [{"b64": "' + b"CgoK" * 7_000_000 + b'"}], "max_tokens": [1]}}',
    "many numbers": b'{"outputs": {"vocabulary_bytes": [""], "max_tokens": [' + b"1e1," * 1_040_000 + b"1]}}",
    "a long number": b'{"outputs": {"max_tokens": [' + b"1" * 8_000_000 + b"]}}",
    "a long error": json.dumps({"error": "e" * 8_000_000}).encode(),
    "more than is read": b" " * 100_000_000,
}


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
def test_large_answers_over_rest(rest, content):
    rest.answers = [http_answer(content)]
    bounded(lambda: ask(rest.address, "start"))
    assert worst["refused"]


def endless(*pieces, pause=0.0):
    def write(file):
        for piece in pieces[:-1]:
            file.write(piece)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            file.write(pieces[-1])
            time.sleep(pause)

    return write


START = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "a body without an end": endless(START + b"\r\n", b" " * 2**16),
    "a body, byte by byte": endless(START + b"Content-Length: 99999\r\n\r\n", b" ", pause=0.1),
    "chunks": endless(START + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "trailers": endless(START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", pause=0.01),
    "headers, byte by byte": endless(START + b"a: ", b"b", pause=0.1),
    "interim answers": endless(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.01),
    "a redirect with a body": endless(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", b" " * 2**16),
    "nothing": endless(b"", pause=0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS)
def test_endless_answers_end(rest, answer):
    rest.answers = [answer]
    began = time.monotonic()
    with pytest.raises(ServingError):
        Client(rest.address, "shakespeare", version=1, timeout=1)
    assert time.monotonic() - began < 4


def field(number, content):
    """Returns a field of a message."""
    size = len(content)
    digits = [size >> shift & 127 | 128 for shift in range(0, max(size.bit_length(), 1), 7)]
    return bytes([number << 3 | 2, *digits[:-1], digits[-1] & 127]) + content


def test_large_answers_over_grpc(grpc):
    from tensorflow_serving.apis import predict_pb2

    bomb, many = predict_pb2.PredictResponse(), predict_pb2.PredictResponse()
    for name in ("vocabulary_bytes", "max_tokens", "state_0"):  # A few bytes that stand for a terabyte.
        bomb.outputs[name].dtype = 1
        bomb.outputs[name].tensor_shape.dim.add(size=2**40)
        bomb.outputs[name].float_val.append(1)
    for number in range(200_000):
        many.outputs[str(number)].dtype = 1
    dimensions = field(1, field(1, b"a") + field(2, field(2, b"\x12\x00" * 13_000_000)))  # 900 MB as objects
    messages = [
        bomb.SerializeToString(),
        many.SerializeToString(),
        b"\x00" * 20_000_000,
        dimensions,
        b"\x0a\x00" * 10**7,
    ]
    for message in messages:
        grpc.answers = [message]
        bounded(lambda: ask(grpc.address, "start"))


def test_undamaged_answers_are_results(rest, grpc):
    """The answers that are damaged here would be accepted otherwise."""
    for server, encoded, wrap in ((rest, as_json, http_answer), (grpc, as_message, bytes)):
        for signature in CALLS:
            used = ["start"] + ([] if signature == "start" else [signature])
            server.answers = [wrap(encoded(ANSWERS[name])) for name in used]
            with Client(server.address, "shakespeare", version=1, vocabulary=VOCABULARY) as client:
                CALLS[signature](client)
