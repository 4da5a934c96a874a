import pytest

from keras_seq.benchmarks import litert_decode as decode_speed


def test_every_contender_is_timed(monkeypatch):
    monkeypatch.setattr(decode_speed, "SIZES", {65: 2.0})
    rows = list(decode_speed.benchmark_decode(rounds=1))
    by_name = {row["what"]: row for row in rows}
    ours = [f"keras_seq .tflite, {kind}" for kind in ("float32", "float16", "int8", "int4")]
    assert {*ours, "tf.function, float32", "Model.predict, float32"} <= set(by_name)
    assert all(row["microseconds"] > 0 for row in rows)
    assert [by_name[name]["floor"] is not None for name in ours] == [True] * 4
    assert by_name[ours[2]]["of_int8"] == 1
    assert len(list(decode_speed.table(rows))) == len(rows) + 1


@pytest.mark.parametrize("peer", ["onnxruntime", "torch"])
def test_the_peers_compute_the_same_step(peer):
    """Against the Keras model; the quantized ones as closely as 8 and 4 bits allow."""
    for needed in (peer, "onnx") if peer == "onnxruntime" else (peer,):
        pytest.importorskip(needed)
    model, _ = decode_speed.untrained_model(65, 2.0)
    expected = model.predict(decode_speed.np.array([[decode_speed._TOKEN]]), verbose=0)[0, 0]
    steps = {name: step for name, step in decode_speed._peers(model).items() if name.startswith(("ONNX", "PyTorch"))}
    assert steps
    for name, step in steps.items():
        tolerance = 1e-5 if "float32" in name else 0.02 if "int8" in name else 0.2
        assert abs(step()[0] - expected).max() < tolerance, name


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="`rounds` must be positive"):
        next(decode_speed.benchmark_decode(rounds=0))
