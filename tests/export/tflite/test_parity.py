"""A file that does not return what its model does is refused, whichever signature is wrong; nothing is published."""

import keras
import numpy as np
import pytest

from keras_seq_export import ExportError, LiteRTDecoder, export_tflite


@pytest.fixture(autouse=True)
def _converted(take_converted, small_tflite):
    take_converted(small_tflite())


def test_other_weights_than_the_models_are_refused(model, vocabulary, tmp_path):
    other = keras.models.clone_model(model)
    other.set_weights([weight + 0.05 for weight in model.get_weights()])
    with pytest.raises(ExportError, match=r"differs from the model by up to \d"):
        export_tflite(other, vocabulary, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []


def change_runs(monkeypatch, signature, change):
    """Makes LiteRT return something else for a signature, as a wrong file would."""
    run = LiteRTDecoder.run

    def changed(decoder, name, inputs, states):
        outputs, states = run(decoder, name, inputs, states)
        return change(outputs, states) if name == signature else (outputs, states)

    monkeypatch.setattr(LiteRTDecoder, "run", changed)


@pytest.mark.parametrize(
    ("signature", "change", "words"),
    [
        ("sample", lambda outputs, states: (outputs | {"next_token": np.array([5])}, states), "sample: token"),
        (
            "sample",
            lambda outputs, states: (outputs | {"log_probability": np.array([-1.0])}, states),
            "sample, log_probability",
        ),
        ("sample", lambda outputs, states: (outputs, [states[0], 0.5 * states[1]]), "sample"),
        ("prefill", lambda outputs, states: (outputs | {"logits": outputs["logits"] + 0.1}, states), "prefill"),
        ("prefill", lambda outputs, states: (outputs, [0.5 * state for state in states]), "prefill"),
    ],
    ids=["next_token", "log_probability", "states of sample", "logits of prefill", "states of prefill"],
)
def test_a_wrong_output_is_refused(signature, change, words, model, vocabulary, tmp_path, monkeypatch):
    change_runs(monkeypatch, signature, change)
    with pytest.raises(ExportError, match=words):
        export_tflite(model, vocabulary, tmp_path / "wrong.tflite")
    assert list(tmp_path.iterdir()) == []
