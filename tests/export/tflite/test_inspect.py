"""What a .tflite contains, read without running it, from good, hostile and damaged files."""

import contextlib
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from bundles import rebundled
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert list(found["signatures"]) == ["decode", "prefill", "sample"]
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
    """A subgraph of many tensors, referred to a thousand times: small on disk, large as objects."""
    graph, tensor = schema.SubGraphT(), schema.TensorT()
    tensor.name, tensor.shape = b"x", [1]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor] * 1000, [], [], []
    graph = Shared(graph)
    model = schema.ModelT()
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph] * 1000
    tensors = [Shared(tensor)] * 1000
    graph.inner.tensors = tensors
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match="claims to contain more than"):
        inspect(path)


class Shared:
    """A part of a flatbuffer that is written once, however often it is referred to."""

    def __init__(self, inner):
        self.inner, self.position = inner, None

    def Pack(self, builder):
        if self.position is None:
            self.position = self.inner.Pack(builder)
        return self.position


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(8), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_changed_flatbuffer_is_inspected_or_refused(changes, exported, tmp_path_factory):
    """The hash is right: whoever changed the model could change that too."""
    model = bytearray(read_bundle(exported).model)
    for position, byte in changes:
        model[8 + position % (len(model) - 8)] = byte
    path = rebundled(exported, tmp_path_factory.mktemp("changed") / "changed.tflite", model=bytes(model))
    # Errors of other classes would fail the test.
    with contextlib.suppress(BundleError):
        assert "\n".join(lines(inspect(path)))
