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
from typing import Any, NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import VocabularyError
from keras_seq_export.errors import BundleError

VOCABULARY, CONFIG, CARD = "vocab.txt", "config.json", "card.json"
FORMAT = 2  # version of the configuration
# Largest unpacked size of each part in bytes, so that a hostile zip cannot fill the memory.
_LARGEST_PARTS = {VOCABULARY: 64 << 20, CONFIG: 1 << 20, CARD: 1 << 20}
_LARGEST_FILE = 1 << 31  # bytes; the offsets in a flatbuffer are smaller
_CONFIG_TYPES = {"model_bytes": int, "batch": int, "state": str, "sampling": dict}


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
    if len(content) > _LARGEST_PARTS[name]:
        raise ValueError(f"{name} must be at most {_LARGEST_PARTS[name]} bytes. Received: {len(content)}")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Returns the contents of a .tflite, with all hashes verified.

    Raises:
        BundleError: the file is missing, is not a .tflite, or its bundle is missing, damaged or of another format.
    """
    content = _read_file(Path(path))
    vocabulary, config, card = _read_parts(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        received = config.get("format") if isinstance(config, dict) else config
        raise BundleError(
            f"{path} must have the bundle format {FORMAT}. Received: {received!r}; export it again, or update keras_seq"
        )
    if config.get("vocabulary_sha256") != (None if vocabulary is None else vocabulary.sha256):
        raise BundleError(f"{path} has another vocabulary than it was exported with: the SHA-256 differs")
    if not isinstance(card, dict) or not all(
        isinstance(config.get(name), kind) for name, kind in _CONFIG_TYPES.items()
    ):
        expected = ", ".join(f"`{name}` ({kind.__name__})" for name, kind in _CONFIG_TYPES.items())
        raise BundleError(f"{path} has a damaged bundle: {CONFIG} must have {expected}, and {CARD} must be an object")
    # A flipped bit in a weight would load and produce nonsense without an error.
    model = content[: config["model_bytes"]]
    if hashlib.sha256(model).hexdigest() != config.get("model_sha256"):
        raise BundleError(f"{path} has a damaged model: the SHA-256 differs; export it again")
    return Bundle(vocabulary, config, card, model)


def _read_file(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is a directory or a device; name a .tflite file")
        with path.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                raise BundleError(f"{path} is not a .tflite file: it must have TFL3 at byte 4")
            if (size := path.stat().st_size) > _LARGEST_FILE:
                raise BundleError(f"{path} has {size} bytes, more than a .tflite can have ({_LARGEST_FILE})")
            file.seek(0)
            return file.read()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; name a .tflite file") from error


def _read_parts(path: str | os.PathLike[str]) -> tuple[Vocabulary | None, Any, Any]:
    """Returns the vocabulary, the configuration and the card from the zip at the end of the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name: _read_part(archive, name) for name in _LARGEST_PARTS if name in archive.namelist()}
        config, card = json.loads(parts[CONFIG]), json.loads(parts.get(CARD, b"{}"))
        vocabulary = Vocabulary.from_bytes(parts[VOCABULARY]) if VOCABULARY in parts else None
    except KeyError as error:
        raise BundleError(f"{path} has no {CONFIG} inside: export it again with keras-seq export") from error
    # RuntimeError: a flipped bit may ask for a password, or for a compression that zipfile lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise BundleError(
            f"{path} has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export "
            f"({error})"
        ) from error
    except (VocabularyError, ValueError) as error:
        raise BundleError(f"{path} has a damaged bundle: {error}") from error
    return vocabulary, config, card


def _read_part(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated")
    if entry.file_size > _LARGEST_PARTS[name]:
        raise ValueError(f"{name} has {entry.file_size} bytes, more than the {_LARGEST_PARTS[name]} allowed")
    return archive.read(name)
