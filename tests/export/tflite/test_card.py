"""The model card: the user's entries and what is known of the model."""

import keras
import pytest
from hamlet import TEXT, small_model

import keras_seq as ks
from keras_seq_export import LiteRTSampler, export_tflite


def test_the_card(small_tflite, take_converted, tmp_path):
    model, vocabulary = small_model()
    take_converted(small_tflite())
    text = TEXT[:43]
    card = {"corpus": "Hamlet", "license": "CC0-1.0", "layers": 2}
    export_tflite(model, vocabulary, tmp_path / "a.tflite", held_out=text, card=card)
    found = LiteRTSampler(tmp_path / "a.tflite").card
    assert card.items() <= found.items()
    assert found["nats_per_token"] == pytest.approx(ks.evaluate(model, vocabulary, text).nats_per_token, abs=1e-3)
    assert found["measured_on"] == "43 held-out tokens, in windows of 256"
    assert found["parameters"] == model.count_params()
    assert found["versions"]["keras"] == keras.__version__
    assert list(found)[:2] == ["name", "license"]
    for wrong in ({"corpus": tmp_path}, {"nats": float("nan")}, {"notes": "x" * (2 << 20)}, "x"):
        with pytest.raises(ValueError, match=r"`card` must be|card\.json must be at most"):
            export_tflite(model, vocabulary, tmp_path / "b.tflite", card=wrong)
    assert not (tmp_path / "b.tflite").exists()
