"""The loss with label smoothing, and the metric in nats per token."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_training import VOCABULARY, data, small_config, small_model

from keras_seq.training.compile import compile_model
from keras_seq.training.losses import NatsPerToken, SmoothedCrossentropy

TOKENS = 5
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(3, 3, TOKENS)).astype("float32") * 2
TARGETS = RANDOM.integers(0, TOKENS, (3, 3)).astype("int32")
INPUTS = np.array([[1, 2, 0], [3, 0, 0], [4, 4, 1]], "int32")  # 0 is masked with mask_zero
WEIGHTS = {shape: RANDOM.uniform(0.5, 2, shape).astype("float32") for shape in [(3,), (3, 1), (3, 3), (3, 3, 1)]}


def nats_of(targets, outputs, weights=None):
    metric = NatsPerToken()
    metric.update_state(targets, outputs, weights)
    return float(metric.result())


def stock_metric():
    return keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="stock")


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


@pytest.mark.parametrize("weights", [None, *WEIGHTS.values()], ids=lambda weights: str(np.shape(weights)))
def test_the_metric_is_the_weighted_mean_of_keras(weights):
    stock = stock_metric()
    stock.update_state(TARGETS, LOGITS, weights)
    for targets in (TARGETS, TARGETS[..., None]):
        for outputs in (LOGITS, keras.ops.softmax(LOGITS).numpy()):
            assert nats_of(targets, outputs, weights) == pytest.approx(float(stock.result()), rel=1e-5)


def test_masked_tokens_do_not_count():
    model = keras.Sequential([layers.Embedding(TOKENS, 4, mask_zero=True), layers.Dense(TOKENS)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile("sgd", loss, metrics=[NatsPerToken("plain")], weighted_metrics=[NatsPerToken(), stock_metric()])
    model.run_eagerly = True
    for weights in (None, WEIGHTS[3, 3], WEIGHTS[3, 3, 1], WEIGHTS[3, 1]):
        found = model.evaluate(INPUTS, TARGETS, sample_weight=weights, verbose=0, return_dict=True)
        assert found["nats"] == pytest.approx(found["stock"], rel=1e-5)
        assert found["nats"] == pytest.approx(found["loss"], rel=1e-5)
        if weights is None:
            assert found["plain"] == pytest.approx(found["loss"], rel=1e-5)


def test_class_weights_weigh_tokens():
    model = keras.Sequential([layers.Embedding(TOKENS, 4), layers.Dense(TOKENS)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.SGD(0.0), loss, weighted_metrics=[NatsPerToken()], run_eagerly=True)
    data = tf.data.Dataset.from_tensors((INPUTS, TARGETS[..., None]))
    weights = {token: 0.5 + token for token in range(TOKENS)}
    history = model.fit(data, class_weight=weights, shuffle=False, verbose=0).history
    assert history["nats"] == pytest.approx(history["loss"], rel=1e-5)
    losses = keras.losses.sparse_categorical_crossentropy(TARGETS, model(INPUTS), from_logits=True)
    assert history["nats"][0] == pytest.approx(np.average(losses, weights=0.5 + TARGETS), rel=1e-5)


def test_the_metric_is_the_mean_over_all_tokens_of_an_epoch():
    metric, losses, weights = NatsPerToken(), [], []
    for rows, time in ((3, 3), (2, 1), (1, 2)):
        targets, logits, some = TARGETS[:rows, :time], LOGITS[:rows, :time], WEIGHTS[3, 3][:rows, :time]
        metric.update_state(targets, logits, some)
        losses += np.ravel(keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)).tolist()
        weights += some.ravel().tolist()
    assert float(metric.result()) == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


SOFTMAXES = {
    "activation": [layers.Activation("softmax")],
    "time distributed": [layers.TimeDistributed(layers.Softmax())],
    "lambda": [layers.Lambda(lambda logits: tf.nn.softmax(logits))],
    "cast": [layers.Activation("softmax", dtype="float16"), layers.Activation("linear", dtype="float32")],
    "dropout": [layers.Softmax(), layers.Dropout(0.4, seed=1)],
}


@pytest.mark.parametrize("kind", SOFTMAXES)
def test_a_model_can_end_in_any_softmax(kind, recwarn):
    logits = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(TOKENS, TOKENS)])
    logits.set_weights([RANDOM.normal(size=(TOKENS, TOKENS)) * 2])
    model = keras.Sequential([logits, *SOFTMAXES[kind]])
    model.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=[NatsPerToken()], run_eagerly=True
    )
    expected = nats_of(TARGETS, logits(INPUTS))
    data = {"x": INPUTS, "y": TARGETS, "verbose": 0}
    assert model.evaluate(**data, return_dict=True)["nats"] == pytest.approx(expected, rel=1e-3)
    history = model.fit(**data, shuffle=False).history["nats"][0]
    if kind == "dropout":  # It has thinned the probabilities.
        assert math.isnan(history)
    else:
        assert history == pytest.approx(expected, rel=1e-3)
    assert not [warning for warning in recwarn if "logits" in str(warning.message)]


def test_an_impossible_token_has_finite_nats():
    assert nats_of(np.array([[1]]), np.array([[[1.0, 0.0]]], "float32")) == pytest.approx(
        -math.log(np.finfo(np.float32).tiny)
    )


def test_label_smoothing_of_probabilities_has_the_gradient_of_their_logits():
    loss, logits = SmoothedCrossentropy(0.2), tf.Variable(LOGITS)

    def gradient(activation):
        with tf.GradientTape() as tape:
            value = loss(TARGETS, activation(logits))
        return tape.gradient(value, logits)

    np.testing.assert_allclose(gradient(tf.nn.softmax), gradient(tf.identity), atol=1e-6)
    thinned = 2 * tf.nn.softmax(LOGITS) * (np.indices((3, TOKENS)).sum(axis=0) % 2)  # as a Dropout does
    assert math.isnan(loss(TARGETS, thinned))
