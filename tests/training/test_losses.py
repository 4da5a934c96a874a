"""The loss with label smoothing, and the metric in nats per token."""

import math

import keras
import numpy as np
import pytest
from small_training import VOCABULARY, data, small_config, small_model

from keras_seq.training.compile import compile_model
from keras_seq.training.losses import SmoothedCrossentropy


def test_the_loss_is_in_nats_per_token():
    model = small_model()
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    compile_model(model, small_config())
    expected = math.log(len(VOCABULARY))
    assert model.evaluate(data(), verbose=0) == pytest.approx([expected, expected], rel=1e-6)


def test_label_smoothing_equals_that_of_keras_for_one_hot_targets():
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(3, 5, 7)).astype("float32"), random.integers(0, 7, (3, 5))
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(np.eye(7)[targets], logits)
    assert float(SmoothedCrossentropy(0.2)(targets, logits)) == pytest.approx(float(expected), rel=1e-5)


def test_a_model_with_smoothed_targets_is_saved_with_them(tmp_path):
    model = small_model()
    compile_model(model, small_config(label_smoothing=0.2))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").loss.get_config()["smoothing"] == 0.2


def test_the_metric_is_without_the_smoothing():
    losses = []
    for smoothing in (0.0, 0.3):
        model = small_model()
        compile_model(model, small_config(label_smoothing=smoothing))
        losses.append(model.evaluate(data(), verbose=0))
    assert losses[0][1] == pytest.approx(losses[1][1], rel=1e-6)
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-5)
    with pytest.raises(ValueError, match="`label_smoothing` must be"):
        compile_model(small_model(), small_config(label_smoothing=1.0))
