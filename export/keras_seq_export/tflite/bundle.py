"""The bundle inside a .tflite: vocabulary, configuration and model card, in a zip appended to the file.

A zip is read from its end and a .tflite from its beginning, so one file is both: every LiteRT runtime loads it, and a
zip reader extracts `vocab.txt`, `config.json` and `card.json`.
"""

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import VocabularyError, shortened
from keras_seq.json_text import parse_json
from keras_seq_export.errors import BundleError
from keras_seq_export.tflite.bundle_config import CONFIG, FORMAT, require_config
from keras_seq_export.vocabulary_limits import MOST_BYTES, MOST_TOKENS

VOCABULARY, CARD = "vocab.txt", "card.json"
# What a part may hold, so that a hostile file fills neither the memory nor the time. C and JavaScript have the same limits.
_LARGEST_PARTS: Final = {VOCABULARY: MOST_BYTES, CONFIG: 1 << 20, CARD: 1 << 20}  # bytes, unpacked
_DEEPEST: Final = 20  # objects and lists inside each other in the configuration and the card
_LARGEST_DIRECTORY: Final = 1 << 16  # bytes of the zip's list of its parts
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
            if file.read(8)[4:] != b"TFL3":
                raise BundleError(f"{path} is not a .tflite file: it must have TFL3 at byte 4")
            if (size := file.seek(0, os.SEEK_END)) > _LARGEST_FILE:
                raise BundleError(f"{path} has {size} bytes, more than a .tflite can have ({_LARGEST_FILE})")
            vocabulary, config, card = _read_parts(path, file)
            require_config(path, config, size)
            file.seek(0)
            model = file.read(config["model_bytes"])
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; name a .tflite file") from error
    if config.get("vocabulary_sha256") != (None if vocabulary is None else vocabulary.sha256):
        raise BundleError(f"{path} has another vocabulary than it was exported with: the SHA-256 differs")
    # A flipped bit in a weight would load and produce nonsense without an error.
    if hashlib.sha256(model).hexdigest() != config.get("model_sha256"):
        raise BundleError(f"{path} has a damaged model: the SHA-256 differs; export it again")
    return Bundle(vocabulary, config, card, model)


def _read_parts(path: str | os.PathLike[str], file: BinaryIO) -> tuple[Vocabulary | None, Any, Any]:
    """Returns the vocabulary, the configuration and the card from the zip at the end of the file."""
    try:
        _require_small_directory(file)
        with zipfile.ZipFile(file) as archive:
            parts = {name: _read_part(archive, name) for name in _LARGEST_PARTS if name in archive.namelist()}
        if CONFIG not in parts:
            raise BundleError(f"{path} has no {CONFIG} inside: export it again with keras-seq export")
        config, card = parse_part(CONFIG, parts[CONFIG]), parse_part(CARD, parts.get(CARD, b"{}"))
        if not isinstance(card, dict):
            raise ValueError(f"{CARD} must be an object")
        vocabulary = None
        if VOCABULARY in parts:
            _require_size(VOCABULARY, parts[VOCABULARY])
            vocabulary = Vocabulary.from_bytes(parts[VOCABULARY])
    # RuntimeError: a flipped bit may ask for a password, or for a compression that zipfile lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, OverflowError) as error:
        raise BundleError(
            f"{path} has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export "
            f"({shortened(error)})"
        ) from error
    except (VocabularyError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} has a damaged bundle: {shortened(error)}") from error
    return vocabulary, config, card


def _require_small_directory(file: BinaryIO) -> None:
    """Refuses a zip whose directory would fill the memory as objects; the bundle is read only if it ends the file."""
    locator, end = 20, 22  # bytes of the record of a 64-bit zip, and of the last record
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - locator - end))
    tail = file.read().rjust(locator + end, b"\0")
    if tail[locator : locator + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise zipfile.BadZipFile("File is not a zip file")
    if tail[:4] == b"PK\6\7" or int.from_bytes(tail[locator + 12 : locator + 16], "little") > _LARGEST_DIRECTORY:
        raise zipfile.BadZipFile("its directory is too large")


def _read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated")
    if entry.file_size > _LARGEST_PARTS[name]:
        raise ValueError(f"{name} has {entry.file_size} bytes, more than the {_LARGEST_PARTS[name]} allowed")
    with archive.open(entry) as part:
        # What an entry inflates to can be far more than its stated size: `archive.read` would take it all.
        return part.read(entry.file_size + 1)


def _require_size(name: str, content: bytes) -> None:
    """Refuses a part that this package would not read, before its tokens become objects."""
    if len(content) > _LARGEST_PARTS[name]:
        raise ValueError(f"{name} must be at most {_LARGEST_PARTS[name]} bytes. Received: {len(content)}")
    if name == VOCABULARY and (tokens := content.count(b"\n")) > MOST_TOKENS:
        raise ValueError(f"{name} must have at most {MOST_TOKENS} tokens. Received: {tokens}")


def parse_part(name: str, content: bytes) -> Any:
    """Returns the value of a JSON part.

    Raises:
        ValueError: it is not JSON, or nested so deeply that printing it could fail.
    """
    try:
        value = parse_json(content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"{name}: it is nested too deeply")
    return value


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
