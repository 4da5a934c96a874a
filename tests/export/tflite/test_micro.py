"""`decode` in TensorFlow Lite for Microcontrollers, as its Python package runs it."""

import numpy as np
import pytest
from hamlet import STABLE, TEXT, WIDE, prompts, report_of

from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation
from keras_seq.generation.integer_sampling import IntegerArithmetic
from keras_seq.generation.score import score
from keras_seq.generation.suggest import suggest
from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.contents import contents_of

tflite_micro = pytest.importorskip("tflite_micro", reason="needs pip install tflite-micro (Linux, x86-64, Python 3.11)")


pytestmark = pytest.mark.slow
CELLS = ["gru", "lstm", "simple_rnn"]


class MicroStep(Step):
    """One row with explicit states. The host runs the token loop and samples."""

    def __init__(self, content, arena_size=None):
        assert len(flatbuffer.parse(content).subgraphs) == 1
        (tensors,) = contents_of(content).signatures.values()
        self.inputs, self.outputs = flatbuffer.positions(content)
        self.zeros = {name: np.zeros(one.shape, np.float32) for name, one in tensors.inputs.items() if name != "token"}
        self.vocabulary_size = tensors.outputs["logits"].shape[-1]
        self.runtime = tflite_micro.runtime.Interpreter.from_bytes(content, arena_size=arena_size)

    def initial_states(self):
        return self.zeros

    def __call__(self, token, states):
        # All inputs at each step, because the runtime overwrites them.
        for name, value in {"token": np.array([token], np.int32), **states}.items():
            self.runtime.set_input(value, self.inputs[name])
        self.runtime.invoke()
        found = {name: self.runtime.get_output(position) for name, position in self.outputs.items()}
        return found.pop("logits")[0], found


class IntegerStep(MicroStep):
    """A whole file of integers, bundle included; nothing is extracted, and `decode` is its only signature."""

    def __init__(self, path, arena_size=None):
        bundle = read_bundle(path)
        super().__init__(bundle.model, arena_size)
        self.runtime = tflite_micro.runtime.Interpreter.from_bytes(path.read_bytes(), arena_size=arena_size)
        decode = contents_of(bundle.model).signatures["decode"]
        self.scale = decode.outputs["logits"].scale
        self.arithmetic = IntegerArithmetic(self.scale)
        self.zeros = {name: np.zeros(one.shape, np.int16) for name, one in decode.inputs.items() if name != "token"}

    def __call__(self, token, states):
        logits, states = super().__call__(token, states)
        assert logits.dtype == np.int16
        return logits.astype(np.float32) * np.float32(self.scale), states


@pytest.fixture(scope="module")
def model(small_tflite):
    return small_tflite()


def test_twenty_texts_are_those_of_litert(model):
    step, sampler = MicroStep(flatbuffer.first_signature(model.read_bytes())), LiteRTSampler(model)
    for prompt, options in prompts():
        text = "".join(Generation(step, sampler.vocabulary, prompt, **options))
        assert text == sampler.sample(prompt, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_gives_the_logits_of_litert_in_a_small_arena(cell, small_tflite):
    path = small_tflite(cell=cell, **STABLE)
    step = MicroStep(flatbuffer.first_signature(path.read_bytes()), arena_size=8192)
    sampler = LiteRTSampler(path)
    ours, theirs = step.initial_states(), sampler.initial_states()
    for token in np.random.default_rng(0).integers(1, len(sampler.vocabulary), 100):
        (logits, ours), (expected, theirs) = step(int(token), ours), sampler(int(token), theirs)
        np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_whole_file_of_integers_writes_the_texts_of_litert(cell, small_tflite):
    path = small_tflite(quantization="integer", cell=cell)
    step, sampler = IntegerStep(path, report_of(path)["arena_bytes"]), LiteRTSampler(path)
    for prompt, options in prompts():
        text = "".join(Generation(step, sampler.vocabulary, prompt, **options))
        assert text == sampler.sample(prompt, **options)
    np.testing.assert_array_equal(score(step, sampler.vocabulary, TEXT[:80]), sampler.score(TEXT[:80]))
    assert suggest(step, sampler.vocabulary, "To b") == sampler.suggest("To b")


def test_a_smaller_arena_than_that_of_the_report_is_refused(small_tflite, capfd):
    path = small_tflite(quantization="integer", cell="gru")
    smallest = report_of(path)["arena_bytes"]
    IntegerStep(path, smallest)
    with pytest.raises(RuntimeError):
        IntegerStep(path, smallest - 16)(3, IntegerStep(path).initial_states())


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        ("int8", "Input type: FLOAT32 with filter type: INT8 not supported"),
        ("int4", "Input type: FLOAT32 with filter type: INT4 not supported"),
        ("float16", "Node DEQUANTIZE"),
    ],
)
def test_quantized_weights_are_refused(quantization, reason, small_tflite, capfd):
    """docs/decisions/tflite-micro.md says so; change it when this test fails."""
    path = small_tflite(quantization=quantization, **WIDE)
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        MicroStep(flatbuffer.first_signature(path.read_bytes()))
    assert reason in capfd.readouterr().err


def test_the_whole_file_is_refused_for_an_operator_of_sample(model, capfd):
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        tflite_micro.runtime.Interpreter.from_bytes(model.read_bytes())
    assert "Didn't find op for builtin opcode 'TOPK_V2'" in capfd.readouterr().err
