"""What a .tflite contains, read without running it, from good, hostile and damaged files."""

import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from bundles import rebundled

from keras_seq_export import LiteRTSampler
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.inspect import inspect, lines


@pytest.fixture(scope="module")
def exported(small_tflite):
    return small_tflite(card={"corpus": "Hamlet", "license": "CC0-1.0"})


def test_inspect_agrees_with_litert(exported):
    found, vocabulary = inspect(exported), LiteRTSampler(exported).vocabulary
    interpreter = Interpreter(model_path=str(exported))
    assert list(found["signatures"]) == ["decode", "prefill", "sample", "write"]
    for name, signature in found["signatures"].items():
        runner = interpreter.get_signature_runner(name)
        for ours, theirs in (
            (signature["inputs"], runner.get_input_details()),
            (signature["outputs"], runner.get_output_details()),
        ):
            assert {one: (tensor.dtype, tensor.shape) for one, tensor in ours.items()} == {
                one: (np.dtype(tensor["dtype"]).name, tuple(tensor["shape"])) for one, tensor in theirs.items()
            }
    assert found["vocabulary"] == {"level": "char", "size": len(vocabulary), "sha256": vocabulary.sha256}
    assert found["card"]["corpus"] == "Hamlet"
    text = "\n".join(lines(found))
    assert "signature sample" in text
    assert "CC0-1.0" in text
    assert json.loads(json.dumps(found))["bytes"]["file"] == exported.stat().st_size


def test_a_card_cannot_control_the_terminal(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", card=json.dumps({"name\x1b": "\x1b[2J\u202e"}).encode())
    assert "\x1b" not in "\n".join(lines(inspect(path)))
    assert "\u202e" not in "\n".join(lines(inspect(path)))


def test_a_part_with_a_thousand_references_is_refused(exported, tmp_path):
    """A subgraph of many tensors, referred to many times: small on disk, large as objects."""
    graph, tensor = schema.SubGraphT(), schema.TensorT()
    tensor.name, tensor.shape = b"x", [1]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor] * 500, [], [], []
    graph = Shared(graph)
    model = schema.ModelT()
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph] * 500
    tensors = [Shared(tensor)] * 500
    graph.inner.tensors = tensors
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match="it has more than 200000 parts"):
        inspect(path)


def test_a_signature_repeated_a_thousand_times_is_refused(exported, tmp_path):
    """Each of them would make the operators of its graph be read again."""
    model = flatbuffer.parse(read_bundle(exported).model)
    model.signatureDefs = [Shared(model.signatureDefs[0])] * 1000
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match="it has 1000 signatures, more than the 32 allowed"):
        inspect(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: setattr(model.signatureDefs[0], "subgraphIndex", 99), "refers to subgraph 99 of"),
        (lambda model: setattr(model.signatureDefs[0].inputs[0], "tensorIndex", 9999), "refers to tensor 9999 of"),
        (lambda model: setattr(model.subgraphs[0].operators[0], "opcodeIndex", 999), "refers to operator code 999 of"),
        (lambda model: setattr(model.subgraphs[0].tensors[0], "buffer", 99999), "refers to buffer 99999 of"),
        (lambda model: setattr(model.signatureDefs[0].inputs[0], "name", b"x" * 5000), "a name has 5000 bytes"),
        (lambda model: setattr(model.subgraphs[0].tensors[0], "shape", [1] * 5000), "a tensor has 5000 dimensions"),
    ],
)
def test_a_forged_flatbuffer_is_refused(change, words, exported, tmp_path):
    model = flatbuffer.parse(read_bundle(exported).model)
    model.signatureDefs[0].inputs[0].tensorIndex = 0
    change(model)
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match=words):
        inspect(path)


class Shared:
    """A part of a flatbuffer that is written once, however often it is referred to."""

    def __init__(self, inner):
        self.inner, self.position = inner, None

    def Pack(self, builder):
        if self.position is None:
            self.position = self.inner.Pack(builder)
        return self.position
