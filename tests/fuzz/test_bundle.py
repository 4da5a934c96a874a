"""Mutated .tflite files: each is inspected or refused in one sentence, in bounded time and memory."""

import json
import time

import pytest
from bundles import rebundled
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_memory

from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.inspect import inspect, lines

PLACES = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), min_size=1, max_size=8)
OFFSETS = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 2**32 - 1)), min_size=1, max_size=4)
KEYS = ["format", "model_bytes", "model_sha256", "vocabulary_sha256", "batch", "state", "sampling"]
KEYS += ["inputs", "outputs", "delays", "at_once", "ranges", "by_line"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(card={"corpus": "Hamlet", "license": "CC0-1.0"})


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The path of the mutated file, which each example writes again."""
    return tmp_path_factory.mktemp("changed") / "changed.tflite"


def require_read_or_refused(path):
    """Other errors than BundleError fail the test, and so do long messages, much memory and much time."""
    began, refused = time.monotonic(), ""
    with peak_memory() as megabytes:
        try:
            read_bundle(path)
            assert "\n".join(lines(inspect(path)))
            json.dumps(inspect(path))
        except BundleError as error:
            refused = str(error)
        assert megabytes() < 300
    assert len(refused) < 1000
    assert time.monotonic() - began < 10


def with_bytes(content, places, first=0):
    content = bytearray(content)
    for position, byte in places:
        content[first + position % (len(content) - first)] = byte
    return bytes(content)


@fuzzed
@given(places=PLACES, end=st.floats(0.9, 1) | st.just(1.0))
def test_a_mutated_zip(exported, changed, places, end):
    content = exported.read_bytes()
    first = len(read_bundle(exported).model)
    changed.write_bytes(with_bytes(content, places, first)[: int(end * len(content))])
    require_read_or_refused(changed)


@fuzzed
@given(
    config=st.dictionaries(
        st.sampled_from(KEYS),
        VALUES,
        min_size=1,
        max_size=3,
    )
)
def test_a_mutated_configuration(exported, changed, config):
    require_read_or_refused(rebundled(exported, changed, config=config))


@fuzzed
@given(data=st.data())
def test_a_mutated_vocabulary(exported, changed, data):
    words = read_bundle(exported).vocabulary.to_bytes()
    vocabulary = data.draw(
        PLACES.map(lambda places: with_bytes(words, places))
        | st.binary(max_size=200)
        | st.lists(st.binary(max_size=9), max_size=20).map(lambda tokens: words + b"\n".join(tokens) + b"\n")
        | st.integers(1, 1 << 24).map(lambda count: words + b"\n" * count)
    )
    require_read_or_refused(rebundled(exported, changed, vocabulary=vocabulary))


@fuzzed
@given(card=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_a_mutated_card(exported, changed, card):
    require_read_or_refused(rebundled(exported, changed, card=card))


@fuzzed
@given(places=PLACES, offsets=OFFSETS | st.just([]), within=st.sampled_from([64, 1024, 2**31]))
def test_a_mutated_flatbuffer(exported, changed, places, offsets, within):
    """The hash is right: whoever changed the model could change that too."""
    model = read_bundle(exported).model
    size = min(within, len(model)) - 8
    model = bytearray(with_bytes(model, [(position % size, byte) for position, byte in places], 8))
    for position, offset in offsets:
        start = 8 + position % size // 4 * 4
        model[start : start + 4] = offset.to_bytes(4, "little")
    require_read_or_refused(rebundled(exported, changed, model=bytes(model)))
