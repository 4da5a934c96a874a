"""What a .tflite carries besides its model: vocabulary, configuration and model card, as a zip appended to the file.

A zip is read from its end and a .tflite from its beginning, so one file is both: every LiteRT runtime loads it, and any zip reader
gets `vocab.txt`, `config.json` and `card.json` out.
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
FORMAT = 2  # of the configuration
_LARGEST = {
    VOCABULARY: 64 << 20,
    CONFIG: 1 << 20,
    CARD: 1 << 20,
}  # bytes unpacked: a hostile zip must not fill the memory


_LARGEST_FILE = 1 << 31  # A flatbuffer's offsets end there.


class Bundle(NamedTuple):
    """What was read from a .tflite.

    Attributes:
        vocabulary: None in a model that is not of text.
        config: how the file is to be used.
        card: what a person wants to know of the model; empty before there is one.
        model: the bytes of the model alone.
    """

    vocabulary: Vocabulary | None
    config: dict[str, Any]
    card: dict[str, Any]
    model: bytes


def write_bundle(path: str | os.PathLike[str], vocabulary: Vocabulary | None, config: dict[str, Any]) -> None:
    """Appends the vocabulary and the configuration, with the hashes of the vocabulary and of the model, to a .tflite."""
    model = Path(path).read_bytes()
    config = {"format": FORMAT, **config, "model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    if vocabulary is not None:
        config["vocabulary_sha256"] = vocabulary.sha256
        _append(path, VOCABULARY, vocabulary.to_bytes())
    _append(path, CONFIG, to_json(config))


def add_card(path: str | os.PathLike[str], card: dict[str, Any]) -> None:
    """Appends the model card to a .tflite that has its bundle."""
    _append(path, CARD, to_json(card))


def to_json(values: dict[str, Any]) -> bytes:
    """Returns readable JSON; NumPy's numbers are numbers in it.

    Raises:
        TypeError: a value cannot be written as JSON.
        ValueError: a number is not finite.
    """
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: give a string or a number. Received: {value!r}")


def _append(path: str | os.PathLike[str], name: str, content: bytes) -> None:
    if len(content) > _LARGEST[name]:
        raise ValueError(f"{name} must be at most {_LARGEST[name]} bytes. Received: {len(content)}")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Returns what a .tflite carries, and its model, after their hashes are compared.

    Raises:
        BundleError: the file is missing, is no .tflite, or has no whole bundle; the message says which.
    """
    content = _read_file(Path(path))
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: _read(archive, name) for name in _LARGEST if name in archive.namelist()}
        config, card = json.loads(files[CONFIG]), json.loads(files.get(CARD, b"{}"))
        vocabulary = Vocabulary.from_bytes(files[VOCABULARY]) if VOCABULARY in files else None
    except KeyError as error:
        raise BundleError(f"{path} has no {CONFIG} inside: export it again with keras-seq export") from error
    # RuntimeError: a flipped bit can ask for a password, or for a compression that zipfile lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise BundleError(
            f"{path} has no whole bundle at its end: it is cut off or damaged, or was not made by keras-seq export ({error})"
        ) from error
    except (VocabularyError, ValueError) as error:
        raise BundleError(f"{path} holds a damaged bundle: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        received = config.get("format") if isinstance(config, dict) else config
        raise BundleError(
            f"{path} must have the bundle format {FORMAT}. Received: {received!r}; export it again, or update keras_seq"
        )
    if config.get("vocabulary_sha256") != (None if vocabulary is None else vocabulary.sha256):
        raise BundleError(f"{path} holds a vocabulary that is not the one it was exported with: the SHA-256 differs")
    size = config.get("model_bytes")
    kinds = {"model_bytes": int, "batch": int, "state": str, "sampling": dict}
    if not isinstance(card, dict) or not all(isinstance(config.get(name), kind) for name, kind in kinds.items()):
        expected = ", ".join(f"`{name}` ({kind.__name__})" for name, kind in kinds.items())
        raise BundleError(f"{path} holds a damaged bundle: {CONFIG} must have {expected}, and {CARD} be an object")
    # A flipped bit in a weight would load and write nonsense without an error.
    model = content[:size]
    if hashlib.sha256(model).hexdigest() != config.get("model_sha256"):
        raise BundleError(f"{path} holds a model that is damaged: the SHA-256 differs; export it again")
    return Bundle(vocabulary, config, card, model)


def _read_file(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is not a .tflite file, but a directory or a device; name a .tflite file")
        with path.open("rb") as file:
            if file.read(8)[4:] != b"TFL3":
                raise BundleError(f"{path} is not a .tflite file: it must have TFL3 at byte 4")
            if (size := path.stat().st_size) > _LARGEST_FILE:
                raise BundleError(f"{path} is {size} bytes, more than a .tflite can have, {_LARGEST_FILE}")
            file.seek(0)
            return file.read()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; name a .tflite file") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    entry = archive.getinfo(name)
    size = entry.file_size
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated")
    if size > _LARGEST[name]:
        raise ValueError(f"{name} is {size} bytes, more than the {_LARGEST[name]} allowed")
    return archive.read(name)
