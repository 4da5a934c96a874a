"""Files whose bundle was changed."""

import functools
import hashlib
import json
import zipfile

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
