"""Models whose states do not begin at zero: the file holds the initial states, and each runtime starts from them."""

import numpy as np
import pytest
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter
from bundles import rebundled
from hamlet import TEXT, starting_model

from keras_seq_export import ExportError, LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.inspect import inspect, lines

VALUES = np.linspace(-1, 1, 16, dtype=np.float32)
EXPECTED = {"state_0": VALUES, "state_1": VALUES}


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(starting=True)


def test_the_file_scores_and_writes_as_the_model_over_sequences(exported):
    model, vocabulary = starting_model()
    ids = vocabulary.encode(TEXT)
    tokens = np.concatenate([[vocabulary.start_id], ids[:-1]])
    logits = model.predict(tokens[None], verbose=0)[0].astype(np.float64)
    expected = logits[np.arange(len(ids)), ids] - np.log(np.exp(logits).sum(-1))
    sampler = LiteRTSampler(exported)
    np.testing.assert_allclose(sampler.score(TEXT).log_probabilities, expected, atol=1e-4)
    greedy = sampler.sample(max_tokens=1, temperature=0.0, bias={"<eos>": -np.inf}).token_ids
    assert greedy == [len(vocabulary.reserved_ids) + int(logits[0, len(vocabulary.reserved_ids) :].argmax())]


def test_start_returns_the_initial_states_in_each_runtime(exported):
    interpreter = Interpreter(model_path=str(exported))
    assert interpreter.get_signature_list()["start"] == {"inputs": [], "outputs": sorted(EXPECTED)}
    found = interpreter.get_signature_runner("start")()
    compiled = CompiledModel.from_file(str(exported))
    index = compiled.get_signature_index("start")
    inputs, outputs = compiled.create_input_buffers(index), compiled.create_output_buffers(index)
    compiled.run_by_index(index, inputs, outputs)
    names = compiled.get_signature_by_index(index)["outputs"]
    assert sorted(names) == sorted(EXPECTED)  # Two states have equal values.
    by_name = dict(zip(names, outputs, strict=True))
    decoder = LiteRTDecoder(exported)
    for (name, values), state in zip(EXPECTED.items(), decoder.initial_states(), strict=True):
        np.testing.assert_allclose(found[name], values[None], atol=1e-6)
        np.testing.assert_array_equal(by_name[name].read(16, np.float32), found[name][0])
        np.testing.assert_array_equal(state, found[name])
        state[:] = 9.0
    np.testing.assert_array_equal(decoder.initial_states()[0], found["state_0"])
    shown = inspect(exported)["signatures"]["start"]
    assert (shown["inputs"], sorted(shown["outputs"]), shown["operators"]) == ({}, sorted(EXPECTED), {})
    assert "  no operators" in list(lines(inspect(exported)))


def test_other_initial_states_than_the_models_are_refused(exported, take_converted, tmp_path, monkeypatch):
    take_converted(exported)
    monkeypatch.setattr(LiteRTDecoder, "initial_states", lambda decoder: [s + 0.01 for s in decoder._initial_states])
    with pytest.raises(ExportError, match=r"start, state_0: the file differs from the model by up to 0\.01"):
        export_tflite(*starting_model(), tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_a_state_is_refused(exported, tmp_path):
    model = flatbuffer.parse(read_bundle(exported).model)
    start = next(one for one in model.signatureDefs if one.signatureKey == b"start")
    start.outputs = start.outputs[1:]
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match="the outputs of start must be state_0"):
        LiteRTDecoder(path)
