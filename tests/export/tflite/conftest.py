import gc

import pytest
from hamlet import small_model

from keras_seq_export.tflite import export
from keras_seq_export.tflite.bundle import read_bundle


@pytest.fixture(scope="module", autouse=True)
def without_the_objects_of_earlier_tests():
    """Exempts what is there from garbage collection, which TensorFlow's converter starts at each export."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def model():
    """A small model of two layers."""
    return small_model()[0]


@pytest.fixture(scope="module")
def vocabulary():
    """The vocabulary of `model`."""
    return small_model()[1]


@pytest.fixture(scope="module")
def exported(small_tflite):
    """The .tflite of `model`, which stores a temperature of 0.5."""
    return small_tflite(sampling={"temperature": 0.5})


@pytest.fixture
def take_converted(monkeypatch):
    """`take_converted(path)` makes exports take the converted model of a file; the conversion is most of their time."""

    def take(path):
        content = read_bundle(path).model
        monkeypatch.setattr(export, "convert", lambda *_: content)

    return take
