"""Invalid requests to a SavedModel: each is an error that names the input, in TensorFlow's C++ session."""

import time

import numpy as np
import pytest
from hamlet import CATS
from open_session import OpenSession

from keras_seq_export.errors import SessionError
from keras_seq_export.requests import warm_up_requests
from keras_seq_export.saved_model.cpp_session import Request, run_in_cpp_session

# A valid request for each signature. It has every input, because the session compiles each choice of inputs anew.
VALID = warm_up_requests(CATS.start_id, 10_000, [np.zeros(16, np.float32)])
TWO_PROMPTS = np.array([b"the", b"cat"], object)


@pytest.fixture(scope="module")
def run(small_saved_model):
    session = OpenSession(small_saved_model)
    yield session
    session.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_tokens", np.int32(0), "`max_tokens` must be a positive integer"),
        ("max_tokens", np.int32(2**31 - 1), "`max_tokens` must be a positive integer, at most 10000"),
        ("max_tokens", np.int32(9_998), "must be at most 10000 tokens together"),
        ("temperature", np.float32("nan"), "`temperature` must be"),
        ("temperature", np.float32(1e7), "`temperature` must be from 0 to 1e6"),
        ("top_p", np.float32(0), "`top_p` must be"),
        ("min_p", np.float32(1.5), "`min_p` must be"),
        ("prompt", b"\xff", r"`prompt` must be UTF-8. Rows that are not:\] \[1\]"),
    ],
)
def test_an_invalid_request_is_an_error_that_names_the_input(name, value, message, run):
    wrong = {name: np.array([b"the" if name == "prompt" else value, value])}
    with pytest.raises(SessionError, match=message):
        run([("serving_default", {**VALID["serving_default"], "prompt": TWO_PROMPTS, **wrong})])


@pytest.mark.parametrize(
    ("signature", "change", "message"),
    [
        ("decode", {"token": [-1]}, "`token` must be from 0 to"),
        ("decode", {"token": [10**6]}, "`token` must be from 0 to"),
        (
            "decode",
            {"token": [3, 4, 5], "state_0": np.zeros((2, 16))},
            "`state_0` must have as many rows as `token`, or one",
        ),
        ("prefill", {"length": [0]}, "`length` must be from 1 to 64"),
        ("prefill", {"length": [65]}, "`length` must be from 1 to 64"),
        ("prefill", {"length": [1, 1]}, "`length` must have as many rows as `tokens`"),
        ("prefill", {"tokens": [[-7] * 64]}, "`tokens` must be from 0 to"),
        ("sample", {"uniform": [1.0]}, "`uniform` must be at least 0 and below 1"),
        ("sample", {"uniform": [np.nan]}, "`uniform` must be at least 0 and below 1"),
        ("sample", {"temperature": [np.nan]}, "`temperature` must be"),
        ("sample", {"top_k": [-5]}, "`top_k` must be"),
        ("sample", {"top_p": [0.0]}, "`top_p` must be"),
        ("sample", {"min_p": [2.0]}, "`min_p` must be"),
        ("decode", {"token": [[3]]}, r"`token` must have the shape \[rows\]\. Received:\] \[1 1\]"),
        ("decode", {"state_0": np.zeros((1, 15))}, r"`state_0` must have the shape \[rows 16\]"),
        ("prefill", {"tokens": [[3] * 63]}, r"`tokens` must have the shape \[rows 64\]"),
        ("score", {"text": np.array([[b"the"]], object)}, r"`text` must have the shape \[rows\]"),
        ("serving_default", {"prompt": np.array(b"the", object)}, r"`prompt` must have the shape \[rows\]"),
        ("serving_default", {"seed": [[1]]}, r"`seed` must have the shape \[rows\]"),
        ("serving_default", {"seed": [1, 2, 3]}, "`seed` must have as many rows as `prompt`, or one"),
    ],
)
def test_an_invalid_input_is_named(signature, change, message, run):
    valid = VALID[signature] | ({"prompt": TWO_PROMPTS} if signature == "serving_default" else {})
    wrong = {name: np.array(value, valid[name].dtype) for name, value in change.items()}
    with pytest.raises(SessionError, match=message):
        run([Request(signature, {**valid, **wrong})])


def rows_of(signature, count, **changes):
    """Returns a request of `count` rows."""
    valid = VALID[signature] | {
        name: np.array([value], VALID[signature][name].dtype) for name, value in changes.items()
    }
    return Request(signature, {name: np.repeat(value, count, axis=0) for name, value in valid.items()})


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            rows_of("serving_default", 1, prompt=b"the cat " * 7_500_000),
            r"`prompt` must be at most 40000 bytes in a row: send a shorter text\. Received:\] \[60000000\]",
        ),
        (rows_of("score", 1, text=b"\xff" * 10_000_000), r"`text` must be at most 40000 bytes in a row.*\[10000000\]"),
        (
            rows_of("serving_default", 40, prompt=b"the cat " * 4_100),
            "`prompt` must be at most 1280000 bytes in all rows",
        ),
        (rows_of("score", 40, text=b"the cat " * 4_100), "`text` must be at most 1280000 bytes in all rows together"),
        (
            rows_of("serving_default", 200, max_tokens=1_601),
            "rows times `max_tokens` must be at most 320000: send fewer rows in a request. "
            r"Received rows and `max_tokens`:\] \[200 1601\]",
        ),
        (
            rows_of("serving_default", 200, prompt=b"the cat " * 13, max_tokens=1_500),
            r"rows times tokens must be at most 320000.*\[200 1604\]",
        ),
        (rows_of("score", 200, text=b"the cat " * 201), r"rows times tokens must be at most 320000.*\[200 1608\]"),
        *(
            (rows_of(signature, 3_000), r"must have at most 256 rows: send several requests\. Received:\] \[3000\]")
            for signature in VALID
        ),
    ],
)
def test_a_request_that_is_too_large_is_refused_before_its_work(request_, message, run):
    began = time.perf_counter()
    with pytest.raises(SessionError, match=message):
        run([request_])
    # Tokenizing 60 MB takes 25 seconds; the request itself is copied to another process.
    assert time.perf_counter() - began < 5


def test_a_full_batch_of_the_longest_rows_is_not_too_large(run):
    """The server merges requests into batches: none may be refused because of the others."""
    longest = b"the cat " * 1_249  # and 8 tokens to generate
    (answer,) = run([rows_of("serving_default", 32, prompt=longest, max_tokens=8)])
    assert len(answer["text"]) == 32


@pytest.mark.parametrize(
    ("signature", "omitted"),
    [
        ("serving_default", "prompt"),
        ("score", "text"),
        ("decode", "token"),
        ("prefill", "length"),
        ("sample", "uniform"),
        ("start", "token"),
    ],
)
def test_an_omitted_input_is_named(signature, omitted, run):
    others = {"length": {"tokens": np.zeros((1, 64), np.int32)}, "uniform": {"token": np.zeros(1, np.int32)}}
    with pytest.raises(SessionError, match=f"must feed a value for placeholder tensor '{signature}_{omitted}'"):
        run([Request(signature, others.get(omitted, {}))])


def test_requests_without_rows_end(small_saved_model, run):
    requests = [
        Request("prefill", {"tokens": np.zeros((0, 64), np.int32), "length": np.zeros(0, np.int32)}),
        Request("decode", {"token": np.zeros(0, np.int32)}),
    ]
    prefilled, decoded = run_in_cpp_session(small_saved_model, requests, timeout=60)
    assert len(prefilled["logits"]) == len(decoded["logits"]) == 0
    with pytest.raises(SessionError, match="`prompt` must have at least one row"):
        run([Request("serving_default", {"prompt": np.zeros(0, object)})])
