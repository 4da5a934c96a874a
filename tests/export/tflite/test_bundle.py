"""Files that are damaged, hostile or of another kind; the real file, changed byte by byte."""

import contextlib
import hashlib
import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.inspect import inspect, lines

VOCABULARY = ks.Vocabulary.from_text("to be, or not to be: that is the question\n")
ENTRY, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "hamlet.tflite"
    model = ks.language_model(len(VOCABULARY), units=[16], embedding_dim=8)
    export_tflite(model, VOCABULARY, path, card={"corpus": "Hamlet", "license": "CC0-1.0"})
    return path


def rebundled(exported, path, config=(), model=None, vocabulary=VOCABULARY, card=b"{}"):
    """Writes the file again with another bundle; its hash of the model is right, whatever the model."""
    model = read_bundle(exported).model if model is None else model
    whole = read_bundle(exported).config | {
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
    }
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab.txt", vocabulary.to_bytes())
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(whole | dict(config)))
        archive.writestr("card.json", card)
    return path


def test_any_zip_reader_gets_everything(exported):
    with zipfile.ZipFile(exported) as archive:
        assert archive.read("vocab.txt") == VOCABULARY.to_bytes()
        assert json.loads(archive.read("config.json"))["vocabulary_sha256"] == VOCABULARY.sha256
        assert json.loads(archive.read("card.json"))["license"] == "CC0-1.0"


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99, -1])
def test_a_file_cut_off_is_refused(exported, tmp_path, kept):
    data = exported.read_bytes()
    end = int(kept * len(data)) if isinstance(kept, float) else kept
    (tmp_path / "cut.tflite").write_bytes(data[:end])
    for read in (LiteRTSampler, inspect):
        with pytest.raises(BundleError, match=r"cut\.tflite"):
            read(tmp_path / "cut.tflite")


def test_a_changed_vocabulary_is_refused(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", vocabulary=ks.Vocabulary.from_text("ab"))
    with pytest.raises(BundleError, match="SHA-256"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "bundle format 2"),
        ({"model_bytes": "9"}, "model_bytes"),
        ({"sampling": [1]}, "sampling"),
        ({"batch": None}, "batch"),
        ({"batch": 7}, "does not fit its signatures"),
        ({"state": "internal"}, "does not fit its signatures"),
        (b"[]", "bundle format"),
        (b"[" * 100_000, "damaged"),
        (b" " * (2 << 20), r"config\.json is 2097152 bytes"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(change, words, exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", config=change)
    with pytest.raises(BundleError, match=words):
        LiteRTSampler(path)


def test_sampling_defaults_out_of_range_are_refused(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", config={"sampling": {"top_p": 7}})
    with pytest.raises(BundleError, match="`top_p` must be"):
        LiteRTSampler(path)


@pytest.mark.parametrize("card", [b"[1]", b"{", b"\xff"])
def test_a_card_that_is_none_is_refused(card, exported, tmp_path):
    with pytest.raises(BundleError, match=r"changed\.tflite holds a damaged bundle"):
        inspect(rebundled(exported, tmp_path / "changed.tflite", card=card))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_the_model_is_refused(exported, tmp_path, share):
    data = bytearray(exported.read_bytes())
    data[8 + int(share * (data.index(ENTRY) - 8))] ^= 16
    (tmp_path / "flipped.tflite").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        LiteRTSampler(tmp_path / "flipped.tflite")


def test_an_entry_that_asks_for_a_password_is_refused(exported, tmp_path):
    data = bytearray(exported.read_bytes())
    data[data.index(DIRECTORY) + 8] |= 1  # The flag of encryption, in the central directory.
    data[data.index(ENTRY) + 6] |= 1
    (tmp_path / "locked.tflite").write_bytes(data)
    with pytest.raises(BundleError, match=r"locked\.tflite"):
        LiteRTSampler(tmp_path / "locked.tflite")


def test_an_entry_that_lies_about_its_size_is_refused(exported, tmp_path):
    """A zip bomb: 64 MiB of zeros in a vocabulary that says it is 9 bytes long."""
    path = tmp_path / "bomb.tflite"
    path.write_bytes(read_bundle(exported).model)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab.txt", bytes(64 << 20))
        archive.writestr("config.json", json.dumps(read_bundle(exported).config))
    data = bytearray(path.read_bytes())
    place = data.index(DIRECTORY) + 24
    data[place : place + 4] = (9).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"bomb\.tflite"):
        read_bundle(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        LiteRTSampler(tmp_path / "none.tflite")
    with pytest.raises(BundleError, match="directory or a device"):
        inspect(tmp_path)


def test_a_file_of_absurd_size_is_refused_unread(tmp_path):
    path = tmp_path / "sparse.tflite"
    with path.open("wb") as file:
        file.write(b"\x1c\0\0\0TFL3")
        file.truncate(50 << 30)
    for read in (LiteRTDecoder, inspect):
        with pytest.raises(BundleError, match=r"more than a \.tflite can have"):
            read(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(kind, exported, tmp_path):
    path = tmp_path / "packed.tflite"
    path.write_bytes(read_bundle(exported).model)
    with zipfile.ZipFile(path, "a", kind) as archive:
        archive.writestr("config.json", json.dumps(read_bundle(exported).config))
    with pytest.raises(BundleError, match="stored or deflated"):
        read_bundle(path)


def test_a_part_told_a_thousand_times_is_refused(exported, tmp_path):
    """One subgraph of many tensors, to which a thousand places point: small on disk, large as objects."""
    graph, tensor = schema.SubGraphT(), schema.TensorT()
    tensor.name, tensor.shape = b"x", [1]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [tensor] * 1000, [], [], []
    graph = Shared(graph)
    model = schema.ModelT()
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph] * 1000
    tensors = [Shared(tensor)] * 1000
    graph.inner.tensors = tensors
    path = rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model))
    with pytest.raises(BundleError, match="holds more than"):
        inspect(path)


class Shared:
    """A part of a flatbuffer that is written once, wherever it is told."""

    def __init__(self, inner):
        self.inner, self.place = inner, None

    def Pack(self, builder):
        if self.place is None:
            self.place = self.inner.Pack(builder)
        return self.place


def test_inspect_tells_what_litert_tells(exported):
    from ai_edge_litert.interpreter import Interpreter

    found = inspect(exported)
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
    assert found["vocabulary"] == {"level": "char", "size": len(VOCABULARY), "sha256": VOCABULARY.sha256}
    assert found["card"]["corpus"] == "Hamlet"
    text = "\n".join(lines(found))
    assert "signature sample" in text
    assert "CC0-1.0" in text
    assert json.loads(json.dumps(found))["bytes"]["file"] == exported.stat().st_size


def test_inspect_does_not_let_a_card_steer_the_terminal(exported, tmp_path):
    path = rebundled(exported, tmp_path / "changed.tflite", card=json.dumps({"name\x1b": "\x1b[2J\u202e"}).encode())
    assert "\x1b" not in "\n".join(lines(inspect(path)))
    assert "\u202e" not in "\n".join(lines(inspect(path)))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_inspect_of_a_flatbuffer_of_any_kind_ends_in_an_answer_or_a_sentence(data, exported, tmp_path_factory):
    """With its hash right: whoever changed the model could change that too."""
    model = bytearray(read_bundle(exported).model)
    for _ in range(data.draw(st.integers(1, 8))):
        model[data.draw(st.integers(8, len(model) - 1))] = data.draw(st.integers(0, 255))
    path = rebundled(exported, tmp_path_factory.mktemp("changed") / "changed.tflite", model=bytes(model))
    # Errors of other classes would fail the test.
    with contextlib.suppress(BundleError):
        assert "\n".join(lines(inspect(path)))
