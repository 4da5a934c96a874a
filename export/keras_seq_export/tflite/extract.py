"""`keras-seq inspect --extract`: the parts of a .tflite as files of their own. Imports neither TensorFlow nor Keras."""

import os
from pathlib import Path

from keras_seq_export.publishing import publishing_export
from keras_seq_export.tflite.bundle import CARD, VOCABULARY, read_bundle, to_json
from keras_seq_export.tflite.bundle_config import CONFIG

MODEL = "model.tflite"


def extract(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Writes the parts of a .tflite into a new folder, for apps that ship them separately.

    Args:
        path: the file.
        folder: the folder to make; it must not exist.

    Returns:
        The files: `model.tflite` without the zip, `vocab.txt` if it is a model of text, `config.json` and `card.json`.

    Raises:
        BundleError: the file is missing, is damaged, or was not written by this package.
        ExportError: the folder exists or cannot be written.
    """
    vocabulary, config, card, model = read_bundle(path)
    parts = {MODEL: model, CONFIG: to_json(config), CARD: to_json(card)}
    if vocabulary is not None:
        parts[VOCABULARY] = vocabulary.to_bytes()
    with publishing_export(Path(folder)) as (partial,):
        partial.mkdir()
        for name, content in parts.items():
            (partial / name).write_bytes(content)
    return [Path(folder) / name for name in sorted(parts)]
