"""The comparison of a model with its one-step form: when it happens, what it finds, and what it tolerates."""

import gc
import weakref

import keras
import numpy as np
import pytest
from brought_models import VOCABULARY, state_by_position, whole_log_probabilities
from keras import layers, ops

import keras_seq as ks
from keras_seq.errors import SteppingError
from keras_seq.models import step_model
from keras_seq.models.difference import first_difference

pytestmark = pytest.mark.usefixtures("all_steps_are_compared")


class GatedDelay(layers.Layer):
    """Adds the input of the step before, times a weight that begins at zero."""

    def build(self, shape):
        self.gate = self.add_weight(initializer="zeros", name="gate")

    def call(self, x):
        before = ops.pad(x, [[0, 0], [1, 0], [0, 0]])[:, : ops.shape(x)[1]]
        return x + self.gate * before


def gated():
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(7, 4)(tokens)
    x = ks.GRU(4, return_sequences=True)(GatedDelay(name="delay")(x))
    return keras.Model(tokens, layers.Dense(7)(x))


def test_a_model_is_compared_once_for_the_same_weights(monkeypatch):
    model = gated()
    decoder = ks.step_model(model)

    def refuse(*_):
        raise AssertionError("compared again")

    monkeypatch.setattr(step_model, "expected_outputs", refuse)
    assert ks.step_model(model) is decoder
    kernel, bias = model.layers[-1].get_weights()
    bias[3] = 0.1
    model.layers[-1].set_weights([kernel, bias])
    with pytest.raises(Exception, match="compared again"):
        ks.step_model(model)


def test_what_a_weight_of_zero_hid_is_found_after_training():
    model = gated()
    ks.step_model(model)
    model.get_layer("delay").set_weights([np.array(1.0)])
    with pytest.raises(SteppingError, match=r"layer 'delay' \(GatedDelay\) cannot be stepped: it looks across time"):
        ks.step_model(model)


class OwnLoop(layers.SimpleRNN):
    """A recurrent layer whose call does something else than its cell."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        return 2 * super().call(sequences, initial_state=initial_state, mask=mask, training=training)


def test_a_recurrent_layer_that_is_not_its_cell_is_named():
    frames = keras.Input((None, 3))
    inner = keras.Sequential([keras.Input((None, 4)), OwnLoop(4, return_sequences=True, name="own")])
    model = keras.Model(frames, layers.Dense(2)(inner(layers.Dense(4)(frames))))
    with pytest.raises(SteppingError, match=r"layer 'own' \(OwnLoop\) cannot be stepped: its class has a `call`"):
        ks.step_model(model)


def test_a_model_that_does_not_run_its_own_graph_is_refused():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    frames = keras.Input((None, 3))
    model = Doubled(frames, ks.GRU(4, return_sequences=True)(frames))
    with pytest.raises(SteppingError, match="`model` cannot be stepped: it gives another output"):
        ks.step_model(model)


def test_a_model_is_not_kept_alive():
    model = gated()
    ks.sample(model, ks.Vocabulary.from_text("abcd"), max_tokens=2)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.slow
def test_a_changed_attribute_or_function_is_seen():
    class Scaled(layers.Layer):
        factor = 1.0

        def call(self, x):
            return self.factor * x

    tokens = keras.Input((None,), dtype="int32")
    x = ks.GRU(4, return_sequences=True)(layers.Embedding(7, 4)(tokens))
    model = keras.Model(tokens, layers.Dense(7)(Scaled(name="scaled")(x)))
    vocabulary = ks.Vocabulary.from_text("abcd")
    for change in (
        lambda: None,
        lambda: setattr(model.get_layer("scaled"), "factor", 30.0),
        lambda: setattr(model.layers[2].cell, "recurrent_activation", keras.activations.hard_sigmoid),
        lambda: setattr(model.layers[-1], "activation", keras.activations.softmax),
    ):
        change()
        scored = ks.score(model, vocabulary, "abcabcd").log_probabilities.sum()
        assert -ks.evaluate(model, vocabulary, "abcabcd").nats == pytest.approx(scored, abs=1e-5)


def test_a_change_in_the_middle_of_an_initial_state_is_seen():
    model = state_by_position()
    (state,) = model.get_layer(index=2).get_weights()
    ks.score(model, VOCABULARY, "to be")
    state[0, 3] = 5.0
    model.get_layer(index=2).set_weights([state])
    np.testing.assert_allclose(
        ks.score(model, VOCABULARY, "to be").log_probabilities, whole_log_probabilities(model, "to be"), atol=1e-5
    )


def test_a_model_with_a_learned_state_is_not_kept_alive():
    model = state_by_position()
    ks.sample(model, VOCABULARY, max_tokens=2)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_an_untrained_softmax_over_many_tokens_is_one_softmax(scale):
    tokens = keras.Input((None,), dtype="int32")
    x = ks.GRU(4, return_sequences=True)(layers.Embedding(3000, 4)(tokens))
    model = keras.Model(tokens, layers.Dense(3000, activation="softmax")(x))
    model.layers[-1].set_weights([scale * weight for weight in model.layers[-1].get_weights()])
    assert step_model.stepped(model).gives_probabilities


def test_rounding_that_grows_from_step_to_step_is_no_difference():
    expected = np.ones((2, 12, 3))
    chaotic = expected + 1e-7 * 3.0 ** np.arange(12)[:, None]
    assert np.abs(chaotic - expected).max() > 1e-2
    assert first_difference(expected, chaotic, 1e-4) is None
    sudden = expected.copy()
    sudden[1, 7:] += 1e-3
    difference = first_difference(expected, sudden, 1e-4)
    noisy = expected + 6e-6
    noisy[0, 9] += 50
    assert first_difference(expected, noisy, 1e-4).step == 9
    assert first_difference(expected * 1e-6, sudden * 1e-6, 1e-4).step == 7  # relative to the outputs
    forbidden = expected * [1, 1, -1e9]
    assert first_difference(forbidden, sudden * [1, 1, -1e9], 1e-4).step == 7
    assert (difference.step, difference.size) == (7, pytest.approx(1e-3, rel=1e-3))
    assert first_difference(expected * -np.inf, expected * -np.inf, 1e-4) is None
    assert first_difference(expected, expected * np.nan, 1e-4).step == 0
