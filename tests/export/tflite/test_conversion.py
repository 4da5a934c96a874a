"""What the converter and the check of the converted model refuse; nothing is published then."""

import keras
import pytest
import tensorflow as tf
from hamlet import VOCABULARY

import keras_seq as ks
from keras_seq_export import ExportError, export_tflite


def stack(*layers):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    for layer in layers:
        values = layer(values)
    return keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))


def test_an_operator_that_tflite_lacks_is_named(tmp_path):
    model = stack(ks.GRU(8, return_sequences=True), keras.layers.Lambda(tf.math.special.bessel_j0))
    with pytest.raises(ExportError, match=r"does not convert to TFLite's builtin operators: it needs BesselJ0$"):
        export_tflite(model, VOCABULARY, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_loop_in_decode_is_refused(tmp_path):
    def loop(x):
        return tf.while_loop(
            lambda i, y: i < 3 + tf.cast(y[0, 0] * 0, tf.int32), lambda i, y: (i + 1, y * 0.9), (0, x)
        )[1]

    model = stack(ks.GRU(8, return_sequences=True), keras.layers.TimeDistributed(keras.layers.Lambda(loop)))
    with pytest.raises(ExportError, match="without loops; it has WHILE"):
        export_tflite(model, VOCABULARY, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("units", "quantization", "quantized"),
    [(4, "int8", "recurrent and convolutional layers"), (48, "int4", "inputs are a multiple of 32 with")],
)
def test_quantization_that_changes_little_is_refused(units, quantization, quantized, tmp_path):
    """Without whole blocks of 32, int4 stores int8."""
    model = stack(ks.GRU(units, return_sequences=True))
    with pytest.raises(ExportError, match=f"^{quantization} changes little in this model: only .*{quantized}"):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", quantization=quantization)
    assert list(tmp_path.iterdir()) == []
