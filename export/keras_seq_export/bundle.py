"""What a .tflite carries besides its model: the vocabulary and a configuration, as a zip appended to the file.

A zip is read from its end and a .tflite from its beginning, so one file is both: every LiteRT runtime loads it, and any zip reader
gets `vocab.txt` and `config.json` out.
"""

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_seq.vocabulary import Vocabulary, VocabularyError

VOCABULARY, CONFIG = "vocab.txt", "config.json"
FORMAT = 1  # of the configuration
_LARGEST = {VOCABULARY: 64 << 20, CONFIG: 1 << 20}  # bytes once unpacked: a hostile zip must not fill the memory


class BundleError(ValueError):
    """A .tflite file that is damaged, or that this package did not write."""


def write_bundle(path: str | os.PathLike[str], vocabulary: Vocabulary, config: dict[str, Any]) -> None:
    """Appends the vocabulary and the configuration, with the hashes of the vocabulary and of the model, to a .tflite."""
    model = Path(path).read_bytes()
    model_entry = {"model_bytes": len(model), "model_sha256": hashlib.sha256(model).hexdigest()}
    config = {"format": FORMAT, **config, "vocabulary_sha256": vocabulary.sha256, **model_entry}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(VOCABULARY, vocabulary.to_bytes())
        archive.writestr(CONFIG, json.dumps(config, indent=2, ensure_ascii=False, default=_plain_number))


def _plain_number(number: np.generic) -> Any:
    return number.item()


def read_bundle(path: str | os.PathLike[str]) -> tuple[Vocabulary, dict[str, Any]]:
    """Returns the vocabulary and the configuration of a .tflite.

    Raises:
        BundleError: the file is missing, is no .tflite, or has no whole bundle; the message says which.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; name a .tflite file") from error
    if head[4:8] != b"TFL3":
        raise BundleError(f"{path} is not a .tflite file: it must have TFL3 at byte 4")
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: _read(archive, name) for name in (VOCABULARY, CONFIG)}
        config = json.loads(files[CONFIG])
        vocabulary = Vocabulary.from_bytes(files[VOCABULARY])
    except KeyError as error:
        raise BundleError(f"{path} has no vocabulary inside: export it again with keras-seq export") from error
    # RuntimeError: a flipped bit can ask for a password, or for a compression that zipfile lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise BundleError(f"{path} is cut off or damaged, or was not made by keras-seq export: {error}") from error
    except (VocabularyError, ValueError) as error:
        raise BundleError(f"{path} holds a damaged bundle: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        received = config.get("format") if isinstance(config, dict) else config
        raise BundleError(f"{path} must have the bundle format {FORMAT}. Received: {received!r}; update keras_seq")
    if config.get("vocabulary_sha256") != vocabulary.sha256:
        raise BundleError(f"{path} holds a vocabulary that is not the one it was exported with: the SHA-256 differs")
    # A flipped bit in a weight would load and write nonsense without an error.
    size, sampling = config.get("model_bytes"), config.get("sampling")
    if not isinstance(size, int) or not isinstance(sampling, dict):
        raise BundleError(f"{path} holds a damaged bundle: `model_bytes` must be an integer and `sampling` an object")
    model = Path(path).read_bytes()[:size]
    if hashlib.sha256(model).hexdigest() != config.get("model_sha256"):
        raise BundleError(f"{path} holds a model that is damaged: the SHA-256 differs; export it again")
    return vocabulary, config


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > _LARGEST[name]:
        raise ValueError(f"{name} is {size} bytes, more than the {_LARGEST[name]} allowed")
    return archive.read(name)
