"""The bundle inside a .tflite: vocabulary, configuration and model card, in a zip appended to the file.

A zip is read from its end and a .tflite from its beginning, so one file is both: every LiteRT runtime loads it, and most
zip readers extract `vocab.txt`, `config.json` and `card.json`. This package reads the zip with `zip_parts`.
"""

import hashlib
import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import shortened
from keras_seq.json_text import parse_json
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle_config import CONFIG, FORMAT, require_config
from keras_seq_export.tflite.zip_parts import read_parts
from keras_seq_export.vocabulary_limits import MOST_BYTES, MOST_TOKENS

VOCABULARY, CARD = "vocab.txt", "card.json"
# What a part may hold, so that a hostile file fills neither the memory nor the time. C and JavaScript have the same limits.
_LARGEST_PARTS: Final = {VOCABULARY: MOST_BYTES, CONFIG: 1 << 20, CARD: 1 << 20}  # bytes, unpacked
_DEEPEST: Final = 20  # objects and lists inside each other in the configuration and the card
LEARNED_MAGIC: Final = b"KSLEARN"  # begins the file of what a model has learned (`learning.file`)
_SMALLEST_MODEL: Final = 12  # bytes: the offset of the root, TFL3, and the root
_LARGEST_FILE: Final = 1 << 31  # bytes; the offsets in a flatbuffer are smaller


class Bundle(NamedTuple):
    """The contents of a .tflite.

    Attributes:
        vocabulary: None in a model that is not of text.
        config: how to use the file.
        card: the model card; empty before `add_card`.
        model: the bytes of the model without the zip.
    """

    vocabulary: Vocabulary | None
    config: dict[str, Any]
    card: dict[str, Any]
    model: bytes


def write_bundle(path: str | os.PathLike[str], vocabulary: Vocabulary | None, config: dict[str, Any]) -> None:
    """Appends the vocabulary and the configuration to a .tflite; hashes are added to the configuration."""
    model = Path(path).read_bytes()
    config = {"format": FORMAT, **config, "model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    if vocabulary is not None:
        config["vocabulary_sha256"] = vocabulary.sha256
        _append(path, VOCABULARY, vocabulary.to_bytes())
    _append(path, CONFIG, to_json(config))


def add_card(path: str | os.PathLike[str], card: dict[str, Any]) -> None:
    """Appends the model card to a .tflite that has a bundle."""
    _append(path, CARD, to_json(card))


def to_json(values: dict[str, Any]) -> bytes:
    """Returns indented JSON in UTF-8; NumPy's numbers become plain numbers.

    Raises:
        TypeError: JSON cannot hold a value.
        ValueError: a number is not finite.
    """
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: give a string or a number. Received: {value!r}")


def _append(path: str | os.PathLike[str], name: str, content: bytes) -> None:
    _require_size(name, content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Returns the contents of a .tflite, with all hashes verified. Nothing in the file is run.

    A file of unknown origin takes no more memory than a few times its size.

    Raises:
        BundleError: the file is missing, is not a .tflite, or its bundle is missing, damaged or of another format.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise BundleError(f"{path} is a directory or a device; name a .tflite file")
        with open(path, "rb") as file:
            if (start := file.read(8))[4:] != b"TFL3":
                if start.startswith(LEARNED_MAGIC):
                    raise BundleError(
                        f"{path} is not a .tflite file, but what a model has learned: open the .tflite of that model, and load "
                        "this file into it"
                    )
                raise BundleError(f"{path} is not a .tflite file: it must have TFL3 at byte 4")
            if (size := file.seek(0, os.SEEK_END)) > _LARGEST_FILE:
                raise BundleError(f"{path} has {size} bytes, more than a .tflite can have ({_LARGEST_FILE})")
            vocabulary, config, card, zip_start = _read_parts(path, file, size)
            require_config(path, config, size)
            file.seek(0)
            model = file.read(config["model_bytes"])
            _require_model(path, model, zip_start)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; name a .tflite file") from error
    if config.get("vocabulary_sha256") != (None if vocabulary is None else vocabulary.sha256):
        raise BundleError(f"{path} has another vocabulary than it was exported with: the SHA-256 differs")
    # A flipped bit in a weight would load and produce nonsense without an error.
    if hashlib.sha256(model).hexdigest() != config.get("model_sha256"):
        raise BundleError(f"{path} has a damaged model: the SHA-256 differs; export it again")
    return Bundle(vocabulary, config, card, model)


def _read_parts(path: str | os.PathLike[str], file: BinaryIO, size: int) -> tuple[Vocabulary | None, Any, Any, int]:
    """Returns the vocabulary, the configuration and the card from the zip at the end of the file, and where it begins."""
    try:
        parts, start = read_parts(file, size, _LARGEST_PARTS)
    except ValueError as error:
        raise BundleError(
            f"{path} has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export "
            f"({error})"
        ) from error
    if CONFIG not in parts:
        raise BundleError(f"{path} has no {CONFIG} inside: export it again with keras-seq export")
    try:
        config, card = parse_part(CONFIG, parts[CONFIG]), parse_part(CARD, parts.get(CARD, b"{}"))
        if not isinstance(card, dict):
            raise ValueError(f"{CARD} must be an object")
        vocabulary = None
        if VOCABULARY in parts:
            _require_size(VOCABULARY, parts[VOCABULARY])
            vocabulary = Vocabulary.from_bytes(parts[VOCABULARY])
    except ValueError as error:  # VocabularyError too
        raise BundleError(f"{path} has a damaged bundle: {shortened(error)}") from error
    return vocabulary, config, card, start


def _require_model(path: str | os.PathLike[str], model: bytes, zip_start: int) -> None:
    """Requires the zip to begin where the model ends, and the model to have a root table."""
    root = int.from_bytes(model[:4], "little")
    if len(model) != zip_start or len(model) < _SMALLEST_MODEL or not 8 <= root <= len(model) - 4:
        raise BundleError(
            f"{path} has a damaged bundle: `model_bytes` in {CONFIG} must be the size of a model that the zip follows. "
            f"Received: {len(model)} of {zip_start}"
        )


def _require_size(name: str, content: bytes) -> None:
    """Refuses a part that this package would not read, before its tokens become objects."""
    if len(content) > _LARGEST_PARTS[name]:
        raise ValueError(f"{name} must be at most {_LARGEST_PARTS[name]} bytes. Received: {len(content)}")
    if name == VOCABULARY and (tokens := content.count(b"\n")) > MOST_TOKENS:
        raise ValueError(f"{name} must have at most {MOST_TOKENS} tokens. Received: {tokens}")


def parse_part(name: str, content: bytes) -> Any:
    """Returns the value of a JSON part.

    Raises:
        ValueError: it is not JSON, has a number that is not finite, or is nested so deeply that printing it could fail.
    """
    try:
        value = parse_json(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if any(isinstance(one, float) and not math.isfinite(one) for one in level):
            raise ValueError(f"{name}: a number is not finite")
        if depth > _DEEPEST:
            raise ValueError(f"{name}: it is nested too deeply")
    return value


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
