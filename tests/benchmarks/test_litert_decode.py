import importlib.util

import numpy as np
import pytest

from keras_seq.benchmarks import litert_decode, timing
from keras_seq.benchmarks.litert_decode import ONNX_RUNTIME, OURS, PYTORCH, Contender
from keras_seq.benchmarks.timing import benchmark_model

# PyTorch is optional: without it this column of the benchmark is absent, and so is its test.
PEERS = [ONNX_RUNTIME, *([PYTORCH] if importlib.util.find_spec("torch") else [])]
WEIGHTS = ("float32", "float16", "int8", "int4")
TOLERANCES = {"float32": 1e-5, "int8": 0.02, "int8 in blocks": 0.02, "int4 in blocks": 0.2}


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """Tests do not judge speed: a model of 64 units is exported sooner."""
    monkeypatch.setattr(timing, "UNITS", 64)
    monkeypatch.setattr(timing, "EMBEDDING_DIM", 32)
    monkeypatch.setattr(litert_decode, "UNITS", 64)


@pytest.mark.slow
def test_every_contender_is_timed(monkeypatch):
    monkeypatch.setattr(litert_decode, "SIZES", {65: 2.0})
    rows = list(litert_decode.benchmark_decode(rounds=1))
    by_name = {row.what: row for row in rows}
    ours = [str(Contender(OURS, weights)) for weights in WEIGHTS]
    assert ours == [f"keras_seq .tflite, {weights}" for weights in WEIGHTS]
    assert {
        *ours,
        "keras_seq .tflite, integer, LiteRT's Interpreter",
        "tf.function, float32",
        "Model.predict, float32",
    } <= set(by_name)
    assert all(row.microseconds > 0 for row in rows)
    assert [row.what for row in rows if row.floor is not None] == ours
    assert by_name[ours[2]].of_int8 == 1
    assert len(list(litert_decode.table(rows))) == len(rows) + 1


@pytest.mark.parametrize("peer", PEERS)
def test_the_peers_compute_the_same_step(peer):
    """Compares with the Keras model; quantized weights as closely as 8 and 4 bits allow."""
    if peer == ONNX_RUNTIME and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        pytest.skip("install ONNX Runtime: pip install onnx onnxruntime")
    model, _ = benchmark_model(65, 2.0)
    expected = model.predict(np.array([[litert_decode._TOKEN]]), verbose=0)[0, 0]
    steps = {
        contender.weights: step
        for contender, step in litert_decode._peer_calls(model).items()
        if contender.runtime == peer
    }
    assert "float32" in steps
    for weights, step in steps.items():
        assert abs(step()[0] - expected).max() < TOLERANCES[weights], weights


def test_rounds_must_be_positive():
    with pytest.raises(ValueError, match="`rounds` must be a positive integer"):
        next(litert_decode.benchmark_decode(rounds=0))
