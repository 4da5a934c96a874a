"""What an export of a file that learns cannot be asked for."""

import keras
import pytest
from hamlet import VOCABULARY, small_model

import keras_seq as ks
from keras_seq.errors import ConfigError
from keras_seq_export import export_tflite


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantization": "integer"}, '`quantization` must not be "integer" with `learn`: what is learned are float32'),
        ({"state": "internal"}, '`state` must be "explicit" with `learn`: what is learned is internal'),
        ({"batch": 2}, "`batch` must be 1 with `learn`: the model learns from one text"),
        ({"learn": 1}, "`learn` must be True or False"),
        ({"learn": None}, "`learn` must be True or False"),
    ],
    ids=str,
)
def test_what_cannot_learn_is_refused(options, words, tmp_path):
    model, vocabulary = small_model()
    with pytest.raises((ConfigError, ValueError), match=words):
        export_tflite(model, vocabulary, tmp_path / "a.tflite", **{"learn": True, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_of_text_is_refused(tmp_path):
    frames = keras.Input((None, 3))
    model = keras.Model(frames, ks.GRU(4, return_sequences=True)(frames))
    with pytest.raises(ConfigError, match="`vocabulary` must be given with `learn`: a model learns from text"):
        export_tflite(model, None, tmp_path / "a.tflite", learn=True)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_an_encoder_is_refused(tmp_path):
    source, tokens = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    _, state = keras.layers.GRU(8, return_state=True)(keras.layers.Embedding(11, 8)(source))
    embedded = keras.layers.Embedding(len(VOCABULARY), 8)(tokens)
    values = keras.layers.GRU(8, return_sequences=True)(embedded, initial_state=state)
    model = keras.Model([source, tokens], keras.layers.Dense(len(VOCABULARY))(values))
    with pytest.raises(
        ConfigError, match="`learn` must be False for a model with an encoder: a text alone has no source"
    ):
        export_tflite(model, VOCABULARY, tmp_path / "a.tflite", learn=True)
    assert list(tmp_path.iterdir()) == []
