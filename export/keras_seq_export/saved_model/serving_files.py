"""What TensorFlow Serving reads beside a SavedModel: warm-up requests, `model.config`, `batching_parameters.txt`."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_seq_export.signatures import MAX_BATCH_SIZE

WARM_UP = "tf_serving_warmup_requests"
# Fields of TensorFlow Serving's messages (prediction_log.proto, predict.proto, model.proto). Written by hand: their Python
# classes are in tensorflow-serving-api, which whoever exports need not have.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _SIGNATURE_NAME, _INPUTS = 6, 1, 1, 3, 2


def next_version(path: Path) -> Path:
    """Returns a version directory: `path` itself where it ends in a number, else the next number under it.

    Raises:
        ValueError: TensorFlow Serving would not find the version there, or would take it for another.

    Example:
        >>> next_version(Path("serving/shakespeare/7")).as_posix(), next_version(Path("nowhere/shakespeare")).as_posix()
        ('serving/shakespeare/7', 'nowhere/shakespeare/1')
    """
    version = path
    if not _is_number(path.name):
        taken = [int(child.name) for child in path.iterdir() if _is_number(child.name)] if path.is_dir() else []
        version = path / str(max(taken, default=0) + 1)
    if not version.absolute().parent.name:
        raise ValueError(f"`path` must be in a directory with the model's name. Received: {path}")
    if inside := next((parent for parent in version.parents if (parent / "saved_model.pb").is_file()), None):
        raise ValueError(f"`path` must not be inside of a SavedModel, as in {inside}. Received: {path}")
    # TensorFlow Serving reads 007 as 7, and no number of more than 63 bits.
    if str(int(version.name)) != version.name or int(version.name) >= 2**63:
        raise ValueError(
            f"`path` must end in the model's name or a version, from 0 to {2**63 - 1}, without zeros in front. "
            f"Received: {version}"
        )
    return version


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def write_warm_up(directory: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes requests, inputs by signature, that a server runs before it answers the first client.

    Args:
        directory: `assets.extra` of the SavedModel.
        requests: one for each signature.
    """
    with tf.io.TFRecordWriter(str(directory / WARM_UP)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Returns a serialized `tensorflow.serving.PredictionLog` with one request."""
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(1, name.encode()) + _field(2, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer message that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def write_configuration(model_directory: Path) -> None:
    """Writes `model.config` and `batching_parameters.txt` beside the versions of a model, where they are not there yet.

    They are for a server to which the parent directory is mounted as `/models`; change them as you like, they are not
    written again.
    """
    model = model_directory.name
    # As in C and in JSON: what a text of a protocol buffer message needs escaped.
    name, base_path = (json.dumps(text, ensure_ascii=False) for text in (model, f"/models/{model}"))
    files = {
        "model.config": (
            f"model_config_list {{\n  config {{\n    name: {name}\n    base_path: {base_path}\n"
            '    model_platform: "tensorflow"\n  }\n}\n'
        ),
        # A text takes tens of milliseconds, a step some 100 us: not much longer may it wait for others that share its products.
        "batching_parameters.txt": (
            f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}\nbatch_timeout_micros {{ value: 200 }}\n"
            "max_enqueued_batches { value: 1000 }\n"
        ),
    }
    for name, text in files.items():
        if not (path := model_directory / name).exists():
            path.write_text(text, encoding="utf-8")
