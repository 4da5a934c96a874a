"""`keras-seq inspect`: what a .tflite contains, without running it. Imports neither TensorFlow nor Keras."""

import json
import os
from collections.abc import Iterator
from typing import Any

from keras_seq.errors import shortened
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.contents import contents_of

# Shown under other titles, or of no use to a reader.
_HIDDEN_CONFIG = ("format", "sampling", "vocabulary_sha256", "model_bytes", "model_sha256")


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what a .tflite of this package contains.

    A file of unknown origin is safe to inspect: nothing in it is run, and its hashes are verified.

    Returns:
        `bytes` of the file and of the model, `signatures` (inputs, outputs and operators of each), `stored_bytes` of
        the constants by dtype, `vocabulary` (None in a model that is not of text), `config`, `sampling` and `card`.

    Raises:
        BundleError: the file is missing, is damaged, or was not written by this package.
    """
    vocabulary, config, card, model = read_bundle(path)
    try:
        signatures, stored, _ = contents_of(model)
    except ValueError as error:
        raise BundleError(f"{path} has a damaged model: {shortened(error)}") from error
    return {
        "bytes": {"file": os.path.getsize(path), "model": len(model)},
        "signatures": {name: signature._asdict() for name, signature in signatures.items()},
        "stored_bytes": stored,
        "vocabulary": None
        if vocabulary is None
        else {"level": vocabulary.level, "size": len(vocabulary), "sha256": vocabulary.sha256},
        "config": {name: value for name, value in config.items() if name not in _HIDDEN_CONFIG},
        "sampling": config["sampling"],
        "card": card,
    }


def to_json(contents: dict[str, Any]) -> str:
    """Returns the result of `inspect` as JSON. A tensor is a list of dtype, shape and, in an integer file, scale."""
    signatures = {
        name: {
            kind: {one: [part for part in tensor if part is not None] for one, tensor in found.items()}
            if kind != "operators"
            else found
            for kind, found in signature.items()
        }
        for name, signature in contents["signatures"].items()
    }
    return json.dumps(contents | {"signatures": signatures}, indent=2)


def lines(contents: dict[str, Any]) -> Iterator[str]:
    """Yields the result of `inspect` as lines to print, with characters that could control a terminal escaped."""
    for line in _lines(contents):
        yield "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


def _lines(contents: dict[str, Any]) -> Iterator[str]:
    yield f"{contents['bytes']['file']:,} bytes, of which the model has {contents['bytes']['model']:,}"
    yield from _block("constants", {dtype: f"{size:,} bytes" for dtype, size in contents["stored_bytes"].items()})
    for name, signature in contents["signatures"].items():
        yield ""
        yield f"signature {name}"
        for kind, arrow in (("inputs", "->"), ("outputs", "<-")):
            yield from (f"  {arrow} {tensor_name:<17} {tensor}" for tensor_name, tensor in signature[kind].items())
        operators = ", ".join(f"{operator} {count}" for operator, count in signature["operators"].items())
        yield f"  {operators or 'no operators'}"
    for title in ("vocabulary", "config", "sampling", "card"):
        if contents[title]:
            yield ""
            yield from _block(title, contents[title])


def _block(title: str, values: dict[str, Any]) -> Iterator[str]:
    yield title
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        yield f"  {name:<20} {value}"
