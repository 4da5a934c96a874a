"""Files whose bundle was changed."""

import functools
import hashlib
import json
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
