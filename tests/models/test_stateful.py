import keras
import numpy as np
import pytest
from keras import layers

import keras_seq as ks
from keras_seq.models.carried_states import reset_states
from keras_seq.models.stateful import stateful_copy

SIZE, BATCH, TIME = 11, 3, 8


def through(*parts):
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(SIZE, 6)(tokens)
    for part in parts:
        x = part(x)
    return keras.Model(tokens, layers.Dense(SIZE)(x))


def sequential():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(SIZE, 6),
            ks.GRU(7, return_sequences=True),
            layers.Dense(SIZE),
        ]
    )


def nested():
    inner = keras.Sequential([keras.Input((None, 6)), ks.GRU(6, return_sequences=True)])
    frames = keras.Input((None, 6))
    residual = keras.Model(frames, layers.Add()([frames, layers.LSTM(6, return_sequences=True)(frames)]))
    return through(inner, residual)


BUILDERS = {
    "gru": lambda: ks.language_model(SIZE, cell="gru", units=[7, 5], dropout=0.2),
    "lstm": lambda: ks.language_model(SIZE, cell="lstm", units=[7, 5]),
    "simple_rnn": lambda: ks.language_model(SIZE, cell="simple_rnn", units=[7]),
    "stock gru": lambda: through(layers.GRU(7, return_sequences=True)),
    "stacked cells": lambda: through(layers.RNN([ks.GRUCell(5), layers.LSTMCell(4)], return_sequences=True)),
    "sequential": sequential,
    "nested": nested,
}


@pytest.fixture(scope="module", params=BUILDERS.values(), ids=BUILDERS)
def both(request):
    """A model and its stateful copy."""
    model = request.param()
    return model, stateful_copy(model, BATCH)


def test_two_halves_with_carried_state_are_one_whole(both):
    model, copy = both
    tokens = np.random.default_rng(0).integers(0, SIZE, (BATCH, TIME)).astype("int32")
    whole = model(tokens).numpy()

    first, second = copy(tokens[:, : TIME // 2]).numpy(), copy(tokens[:, TIME // 2 :]).numpy()
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-6)

    assert not np.allclose(copy(tokens[:, : TIME // 2]), first, atol=1e-4)  # it continues
    reset_states(copy)
    np.testing.assert_allclose(copy(tokens[:, : TIME // 2]), first, rtol=0, atol=1e-6)


def test_the_copy_has_weights_of_its_own_in_the_same_order(both):
    model, copy = both
    assert not {id(weight) for weight in model.weights} & {id(weight) for weight in copy.weights}
    for mine, other in zip(model.get_weights(), copy.get_weights(), strict=True):  # the state is no weight
        np.testing.assert_array_equal(mine, other)
    model.set_weights(copy.get_weights())


def test_the_model_itself_stays_stateless():
    model = ks.language_model(SIZE, units=[7])
    copy = stateful_copy(model, BATCH)
    assert copy.input_shape == (BATCH, None)
    assert model.input_shape == (None, None)
    assert not model.get_layer("gru_0").stateful
    reset_states(model)  # nothing to reset, no error


def test_a_layer_that_is_called_twice_is_rejected():
    shared = ks.GRU(4, return_sequences=True, name="shared")
    frames = keras.Input((None, 4))
    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        stateful_copy(keras.Model(frames, shared(shared(frames))), BATCH)


def test_frames():
    frames = keras.Input((None, 4))
    model = keras.Model(frames, ks.GRU(5, return_sequences=True)(frames))
    values = np.random.default_rng(0).normal(size=(BATCH, TIME, 4)).astype("float32")
    copy = stateful_copy(model, BATCH)
    halves = [copy(values[:, :3]), copy(values[:, 3:])]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), model(values), rtol=0, atol=1e-6)
