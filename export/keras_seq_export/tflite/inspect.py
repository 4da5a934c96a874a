"""`keras-seq inspect`: what is in a .tflite, without running it. Imports neither TensorFlow nor Keras."""

import os
from collections.abc import Iterator
from typing import Any

from keras_seq_export.errors import BundleError
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what a .tflite of this package holds.

    Nothing in the file is run, and its hashes are compared, so a file of unknown origin may be looked at.

    Returns:
        `bytes` of the file and of the model, `signatures` (inputs, outputs and operators of each), `stored_bytes` of the
        constants by dtype, `vocabulary` (None in a model that is not of text), `config`, `card`.

    Raises:
        BundleError: the file is missing, damaged, or not of this package.
    """
    vocabulary, config, card, model = read_bundle(path)
    try:
        parsed = flatbuffer.parse(model)
        signatures = flatbuffer.signatures(parsed)
        stored = flatbuffer.stored_bytes(parsed)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} holds a model that is damaged: {error}") from error
    told = ("format", "sampling", "vocabulary_sha256", "model_bytes", "model_sha256")
    return {
        "bytes": {"file": os.path.getsize(path), "model": len(model)},
        "signatures": {name: signature._asdict() for name, signature in signatures.items()},
        "stored_bytes": stored,
        "vocabulary": None
        if vocabulary is None
        else {"level": vocabulary.level, "size": len(vocabulary), "sha256": vocabulary.sha256},
        "config": {name: value for name, value in config.items() if name not in told},
        "sampling": config["sampling"],
        "card": card,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Gives what `inspect` returns as lines to print, without what could steer a terminal."""
    for line in _lines(found):
        yield "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['bytes']['file']:,} bytes, {found['bytes']['model']:,} of them the model"
    yield from _block("constants", {dtype: f"{size:,} bytes" for dtype, size in found["stored_bytes"].items()})
    for name, signature in found["signatures"].items():
        yield ""
        yield f"signature {name}"
        for kind, arrow in (("inputs", "->"), ("outputs", "<-")):
            yield from (f"  {arrow} {of:<18}{tensor}" for of, tensor in signature[kind].items())
        yield f"  {', '.join(f'{operator} {count}' for operator, count in signature['operators'].items())}"
    for title in ("vocabulary", "config", "sampling", "card"):
        if found[title]:
            yield ""
            yield from _block(title, found[title])


def _block(title: str, values: dict[str, Any]) -> Iterator[str]:
    yield title
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{part} {one}" for part, one in value.items())
        yield f"  {name:<20} {value}"
