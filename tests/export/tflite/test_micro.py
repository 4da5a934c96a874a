"""`decode` in TensorFlow Lite for Microcontrollers, as its Python package runs it."""

import keras
import numpy as np
import pytest
from hamlet import export_small_tflite, prompts

import keras_seq as ks
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation
from keras_seq_export import LiteRTSampler, export_tflite
from keras_seq_export.tflite import flatbuffer

tflite_micro = pytest.importorskip("tflite_micro", reason="needs pip install tflite-micro (Linux, x86-64, Python 3.11)")


class MicroStep(Step):
    """One row, states outside. The token loop and the draw are the host's."""

    def __init__(self, content, arena_size=None):
        model = flatbuffer.parse(content)
        (graph,), (signature,) = model.subgraphs, model.signatureDefs
        # Places in the lists of the subgraph, which are in no order of names.
        self.inputs = {one.name.decode(): list(graph.inputs).index(one.tensorIndex) for one in signature.inputs}
        self.outputs = {one.name.decode(): list(graph.outputs).index(one.tensorIndex) for one in signature.outputs}
        tensors = flatbuffer.signatures(model)["decode"]
        self.zeros = {name: np.zeros(one.shape, np.float32) for name, one in tensors.inputs.items() if name != "token"}
        self.vocabulary_size = tensors.outputs["logits"].shape[-1]
        self.runtime = tflite_micro.runtime.Interpreter.from_bytes(content, arena_size=arena_size)

    def initial_states(self):
        return self.zeros

    def __call__(self, token, states):
        # All of them at each step: the runtime writes over its inputs.
        for name, value in {"token": np.array([token], np.int32), **states}.items():
            self.runtime.set_input(value, self.inputs[name])
        self.runtime.invoke()
        found = {name: self.runtime.get_output(place) for name, place in self.outputs.items()}
        return found.pop("logits")[0], found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_small_tflite(tmp_path_factory.mktemp("hamlet"))


def test_twenty_texts_are_those_of_litert(model):
    step, sampler = MicroStep(flatbuffer.first_signature(model.read_bytes())), LiteRTSampler(model)
    for prompt, options in prompts():
        text = "".join(Generation(step, sampler.vocabulary, prompt, **options))
        assert text == sampler.sample(prompt, **options)


@pytest.mark.parametrize("cell", ["gru", "lstm", "simple_rnn"])
def test_each_cell_gives_the_logits_of_litert_in_a_small_arena(cell, tmp_path):
    vocabulary = ks.Vocabulary.from_text("to be, or not to be")
    keras.utils.set_random_seed(1)
    model = ks.language_model(len(vocabulary), cell=cell, units=[32])
    export_tflite(model, vocabulary, tmp_path / "a.tflite")
    content = flatbuffer.first_signature((tmp_path / "a.tflite").read_bytes())
    step, sampler = MicroStep(content, arena_size=8192), LiteRTSampler(tmp_path / "a.tflite")
    ours, theirs = step.initial_states(), sampler.initial_states()
    for token in np.random.default_rng(0).integers(1, len(vocabulary), 100):
        (logits, ours), (expected, theirs) = step(int(token), ours), sampler(int(token), theirs)
        np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        ("int8", "Input type: FLOAT32 with filter type: INT8 not supported"),
        ("int4", "Input type: FLOAT32 with filter type: INT4 not supported"),
        ("float16", "Node DEQUANTIZE"),
    ],
)
def test_what_build_md_says_is_refused_is_refused(quantization, reason, tmp_path, capfd):
    """Should Micro learn it, BUILD.md is to be changed."""
    path = export_small_tflite(tmp_path, quantization=quantization, max_loss=9.0, units=[128])
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        MicroStep(flatbuffer.first_signature(path.read_bytes()))
    assert reason in capfd.readouterr().err


def test_the_whole_file_is_refused_for_an_operator_of_its_draw(model, capfd):
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        tflite_micro.runtime.Interpreter.from_bytes(model.read_bytes())
    assert "Didn't find op for builtin opcode 'TOPK_V2'" in capfd.readouterr().err
