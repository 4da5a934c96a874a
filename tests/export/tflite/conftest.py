import pytest

from keras_seq_export.tflite import export
from keras_seq_export.tflite.bundle import read_bundle


@pytest.fixture
def take_converted(monkeypatch):
    """`take_converted(path)` makes exports take the converted model of a file; the conversion is most of their time."""

    def take(path):
        content = read_bundle(path).model
        monkeypatch.setattr(export, "convert", lambda endpoints, quantization: content)

    return take
