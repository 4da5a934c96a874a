"""The other files of TensorFlow Serving: warm-up requests, `model.config` and `batching_parameters.txt`."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_seq.files import explaining, replacing
from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import MAX_BATCH_SIZE

WARM_UP = "tf_serving_warmup_requests"
# Field numbers of TensorFlow Serving's messages (prediction_log.proto, predict.proto, model.proto). The messages are
# encoded here because their Python classes need tensorflow-serving-api, which an export should not require.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _SIGNATURE_NAME, _INPUTS = 6, 1, 1, 3, 2


def next_version(path: Path) -> Path:
    """Returns the version directory to write: `path` if it ends in a number, otherwise the next number inside it.

    Args:
        path: the directory of a version, "serving/shakespeare/7", or of a model, "serving/shakespeare".

    Raises:
        ValueError: TensorFlow Serving would not find the version there, or would read its number differently.

    Example:
        >>> next_version(Path("serving/shakespeare/7")).as_posix(), next_version(Path("nowhere/shakespeare")).as_posix()
        ('serving/shakespeare/7', 'nowhere/shakespeare/1')
    """
    version = path
    if not _is_number(path.name):
        taken = [int(child.name) for child in path.iterdir() if _is_number(child.name)] if path.is_dir() else []
        version = path / str(max(taken, default=0) + 1)
    if not version.absolute().parent.name:
        raise ValueError(f"the version directory must be inside a directory named after the model. Received: {path}")
    if inside := next((parent for parent in version.parents if (parent / "saved_model.pb").is_file()), None):
        raise ValueError(f"the version directory must not be inside the SavedModel {inside}. Received: {path}")
    # TensorFlow Serving reads 007 as 7, and no number above 63 bits.
    if str(int(version.name)) != version.name or int(version.name) >= 2**63:
        raise ValueError(
            f"the name of the version directory must be a number from 0 to {2**63 - 1} without leading zeros. "
            f"Received: {version}"
        )
    return version


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def write_warm_up(directory: Path, requests: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes the requests that a server runs after it has loaded the model and before it answers clients.

    Args:
        directory: the folder `assets.extra` of the SavedModel.
        requests: the inputs of one request for each signature, by signature.
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
    """Returns the encoding of a protocol buffer field that holds bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Returns the protocol buffer encoding of a non-negative integer: seven bits per byte, lowest bits first."""
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def write_configuration(model_directory: Path) -> None:
    """Writes `model.config` and `batching_parameters.txt` next to the versions of a model; existing files are kept.

    They suit a server that has the parent of `model_directory` mounted as `/models`.

    Raises:
        ExportError: a file cannot be written.
    """
    model = model_directory.name
    # Protocol buffer text escapes quotes and backslashes as JSON does.
    name, base_path = (json.dumps(text, ensure_ascii=False) for text in (model, f"/models/{model}"))
    files = {
        "model.config": (
            f"model_config_list {{\n  config {{\n    name: {name}\n    base_path: {base_path}\n"
            '    model_platform: "tensorflow"\n  }\n}\n'
        ),
        # A step takes about 100 us and a text tens of milliseconds, so a request waits at most 200 us for batch-mates.
        "batching_parameters.txt": (
            f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}\nbatch_timeout_micros {{ value: 200 }}\n"
            "max_enqueued_batches { value: 1000 }\n"
        ),
    }
    for name, text in files.items():
        if not (path := model_directory / name).exists():
            with explaining(path, ExportError), replacing(path) as partial:
                partial.write_text(text, encoding="utf-8")
