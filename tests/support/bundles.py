"""Files whose bundle was changed."""

import functools
import hashlib
import io
import json
import warnings
import zipfile

from ai_edge_litert.schema_py_generated import BuiltinOptions, MulOptionsT, TensorType

from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle

_read_bundle = functools.cache(read_bundle)


def rebundled(exported, path, config=(), model=None, vocabulary=None, card=b"{}"):
    """Writes a .tflite again with changes in its parts; the hashes of a model and of a vocabulary's bytes are right."""
    original = _read_bundle(exported)
    model = original.model if model is None else model
    whole = original.config | {"model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    words = vocabulary if isinstance(vocabulary, bytes) else (vocabulary or original.vocabulary).to_bytes()
    if isinstance(vocabulary, bytes):
        whole["vocabulary_sha256"] = hashlib.sha256(vocabulary).hexdigest()
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vocab.txt", words)
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(whole | dict(config)))
        archive.writestr("card.json", card)
    return path


def with_endless_prefill(exported, path):
    """Writes a .tflite again, with a loop in `prefill` that never ends: its body does not count the steps."""
    model = flatbuffer.parse(_read_bundle(exported).model)
    prefill = next(one for one in model.signatureDefs if one.signatureKey == b"prefill")
    operators = model.subgraphs[prefill.subgraphIndex].operators
    loop = next(one for one in operators if flatbuffer.operator_name(model, one) == "WHILE")
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    for position, one in enumerate(body.operators):
        if flatbuffer.operator_name(model, one) == "ADD" and body.tensors[one.outputs[0]].type == TensorType.INT32:
            times_one = flatbuffer.new_operator(model, "MUL", one.inputs, one.outputs)
            times_one.builtinOptionsType, times_one.builtinOptions = BuiltinOptions.MulOptions, MulOptionsT()
            body.operators[position] = times_one
    return rebundled(exported, path, model=flatbuffer.pack(model))


def without_output(exported, path, signature, name):
    """Writes a .tflite again without an output of a signature."""
    model = flatbuffer.parse(_read_bundle(exported).model)
    changed = next(one for one in model.signatureDefs if one.signatureKey == signature.encode())
    removed = next(one for one in changed.outputs if one.name == name.encode())
    changed.outputs.remove(removed)
    graph = model.subgraphs[changed.subgraphIndex]
    graph.outputs = [index for index in graph.outputs if index != removed.tensorIndex]
    return rebundled(exported, path, model=flatbuffer.pack(model))


def damaged_bundles(exported):
    """Yields the name and the bytes of damaged copies of a .tflite; every runtime must refuse each."""
    content = exported.read_bytes()
    start = len(_read_bundle(exported).model)
    directory = content.index(b"PK\x01\x02", start)
    end = len(content) - 22

    def changed(position, new):
        copy = bytearray(content)
        copy[position : position + len(new)] = new
        return bytes(copy)

    def both(offset, new):
        """Changes a field of the first entry in its local header and in the directory, where it is two bytes later."""
        copy = bytearray(changed(start + offset, new))
        copy[directory + offset + 2 : directory + offset + 2 + len(new)] = new
        return bytes(copy)

    yield "no zip", content[:start]
    yield "cut short", content[:-1]
    yield "a byte more", content + b"\0"
    yield "a comment", changed(end + 20, b"\1\0") + b"c"
    yield "two disks", changed(end + 4, b"\1")
    yield "a number of entries that is too small", changed(end + 8, b"\2\0\2\0")
    yield "different numbers of entries", changed(end + 8, b"\2\0")
    yield "bytes before the archive", content[:start] + b"junk" + content[start:]
    yield "a password", both(6, b"\1\0")
    yield "a descriptor after the entry", both(6, b"\10\0")
    yield "another compression", both(8, b"\14\0")
    yield "an extra field in the local header", changed(start + 28, b"\1\0")
    for name, offset in (("time", 10), ("checksum", 14), ("packed size", 18), ("size", 22), ("name", 30)):
        byte = bytes([content[start + offset] ^ 1])
        yield f"another {name} in the local header", changed(start + offset, byte)
    for name, offset in (("checksum", 14), ("packed size", 18), ("size", 22)):
        yield f"a wrong {name}", both(offset, bytes([content[start + offset] ^ 1]))
    yield "two entries of one name", _with_parts(exported, [("card.json", b"{}"), ("card.json", b"{}")])
    yield "no configuration", _with_parts(exported, [], without="config.json")
    for part in ("config.json", "card.json"):
        for name, value in (
            ("not finite", b'{"a": [NaN]}'),
            ("infinite", b'{"a": -Infinity}'),
            ("null", b"null"),
            ("a list", b"[]"),
            ("cut", b"{"),
            ("not UTF-8", b'{"\xff": 1}'),
            ("UTF-16", "{}".encode("utf-16")),
        ):
            yield f"{part} that is {name}", _with_parts(exported, [(part, value)], without=part)
    for bytes_of_model in (0, 8, 11, start - 1, start + 1, 2**31, -1, 1.5, None, True):
        yield f"model_bytes of {bytes_of_model}", _with_model_bytes(exported, bytes_of_model)
    yield "a root outside of the model", _with_model(exported, start.to_bytes(4, "little"))
    yield "a root inside the header", _with_model(exported, (4).to_bytes(4, "little"))
    yield "a flipped bit in the model", changed(start // 2, bytes([content[start // 2] ^ 16]))
    for format_of_bundle in (1, 3, "2", None):
        yield f"format {format_of_bundle!r}", _with_config(exported, format=format_of_bundle)
    yield "another hash of the vocabulary", _with_config(exported, vocabulary_sha256="0" * 64)
    yield "no hash of the model", _with_config(exported, model_sha256=None)


def _parts(exported):
    with zipfile.ZipFile(exported) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with_parts(exported, added, without="", model=None):
    """Returns a .tflite with other parts in its zip."""
    file = io.BytesIO(_read_bundle(exported).model if model is None else model)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of two entries of one name
        for name, content in [*((n, c) for n, c in _parts(exported).items() if n != without), *added]:
            archive.writestr(name, content)
    return file.getvalue()


def _with_config(exported, model=None, **changes):
    config = _read_bundle(exported).config | changes
    return _with_parts(exported, [("config.json", json.dumps(config).encode())], "config.json", model)


def _with_model_bytes(exported, size):
    """Returns a .tflite that says that its model has another size, and has the hash of as many bytes."""
    model = _read_bundle(exported).model
    first = model[: int(size)] if size and size > 0 else b""
    return _with_config(exported, model_bytes=size, model_sha256=hashlib.sha256(first).hexdigest())


def _with_model(exported, beginning):
    """Returns a .tflite whose model begins with other bytes; its hash is right."""
    model = beginning + _read_bundle(exported).model[len(beginning) :]
    return _with_config(exported, model, model_sha256=hashlib.sha256(model).hexdigest())
