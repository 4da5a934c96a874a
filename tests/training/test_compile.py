"""`compile_model`: what reaches the optimizer."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_training import data, small_config, small_model

import keras_seq as ks
from keras_seq.training.compile import compile_model
from keras_seq.training.config import Clipping


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_reaches_the_optimizer(name):
    model = small_model()
    compile_model(model, small_config(learning_rate=0.004, clipping=Clipping(name, 0.25)))
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.004)
    reached = {other: getattr(model.optimizer, other) for other in ("clipnorm", "global_clipnorm", "clipvalue")}
    assert reached == {"clipnorm": None, "global_clipnorm": None, "clipvalue": None, name: 0.25}


@pytest.mark.parametrize(
    ("clipping", "step"), [({"clipnorm": 1.0}, 2), ({"global_clipnorm": 1.0}, 2), ({"clipvalue": 0.5}, 2), ({}, 4)]
)
def test_keras_clips_the_rows_of_an_embedding_before_it_adds_them(clipping, step):
    """The docstring of `compile_model` and docs say so. The gradient is 4: a row that was looked up four times."""
    weight = keras.Variable(np.zeros((3, 1), "float32"))
    optimizer = keras.optimizers.SGD(1.0, **clipping)
    optimizer.build([weight])
    gradient = tf.IndexedSlices(tf.ones((4, 1)), tf.zeros(4, tf.int32), tf.constant([3, 1]))
    optimizer.apply([gradient], [weight])
    np.testing.assert_allclose(weight, [[-step], [0], [0]], rtol=1e-6)


def test_a_configuration_without_clipping_clips_nothing():
    model = small_model()
    compile_model(model, small_config())
    assert model.optimizer.clipnorm is model.optimizer.global_clipnorm is model.optimizer.clipvalue is None


def test_a_short_fit_learns_a_text_that_repeats():
    model = small_model()
    compile_model(model, small_config(learning_rate=0.05, clipping=Clipping("clipnorm", 1.0)))
    losses = model.fit(data(), epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    # Of four characters, each follows from the one before.
    assert model.evaluate(data(), verbose=0)[0] < math.log(4) / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adamm"}, "`optimizer` must be an optimizer of Keras"),
        ({"weight_decay": -1.0}, "`weight_decay` must be a positive, finite number"),
        ({"ema_momentum": 1.0}, "`ema_momentum` must be between 0 and 1"),
        ({"optimizer": "lossscaleoptimizer"}, "`optimizer` must be an optimizer of Keras that takes a learning rate"),
    ],
)
def test_bad_settings_of_the_optimizer_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compile_model(small_model(), small_config(**arguments))


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.1}])
def test_biases_do_not_decay(decay):
    model = small_model()
    compile_model(model, small_config(optimizer="adamw", **decay))
    model.optimizer.build(model.trainable_variables)
    used = {variable.path: model.optimizer._use_weight_decay(variable) for variable in model.trainable_variables}
    assert {path for path, decays in used.items() if not decays} == {path for path in used if path.endswith("bias")}


def test_an_optimizer_with_a_decay_of_its_own_is_refused_for_ngrams():
    model = ks.language_model(9, cell="simple_rnn", units=[8], embedding_dim=4, ngrams=3, ngram_rows=11)
    with pytest.raises(ValueError, match=r"`ngram_decay` needs an optimizer without .* such as adam. Received: adamw"):
        compile_model(model, small_config(ngrams=3, ngram_rows=11, ngram_decay=0.5, optimizer="adamw"))


def test_the_decay_of_ngrams_reaches_their_vectors_alone():
    model = ks.language_model(9, cell="simple_rnn", units=[8], embedding_dim=4, ngrams=3, ngram_rows=11)
    compile_model(model, small_config(ngrams=3, ngram_rows=11, ngram_decay=0.5))
    weights = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.apply_gradients([(keras.ops.zeros_like(one), one) for one in model.trainable_variables])
    ngrams = model.get_layer("ngrams").trainable_variables
    for variable, before in zip(model.trainable_variables, weights, strict=True):
        kept = 1 - 0.5 * 6e-3 if any(variable is one for one in ngrams) else 1
        np.testing.assert_allclose(variable, kept * before, rtol=1e-6)
