"""The step and the gates of the GRU against the equations in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_gru import BATCH, FEATURES, FLOAT32, TIME, UNITS, notes_gru, numbers, random_weights, simplified

import keras_seq as ks


@pytest.mark.parametrize("reset_after", [True, False])
def test_layer_and_gates_follow_the_equations(reset_after):
    layer = ks.GRU(UNITS, return_sequences=True, reset_after=reset_after)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)

    update, relevance, candidate, memories = notes_gru(sequences, memory, layer.get_weights(), reset_after)

    np.testing.assert_allclose(layer(sequences, initial_state=[memory]), memories, **FLOAT32)
    gates = layer.gates(sequences, initial_state=memory)
    np.testing.assert_allclose(gates.update, update, **FLOAT32)
    np.testing.assert_allclose(gates.relevance, relevance, **FLOAT32)
    np.testing.assert_allclose(gates.candidate, candidate, **FLOAT32)


@pytest.mark.parametrize(
    ("sequences", "memory", "message"),
    [
        (
            np.ones((5, 3)),
            None,
            r"`sequences.shape` must be \(batch, time, features\).*Received: sequences.shape=\(5, 3\)",
        ),
        (np.ones((2, 0, 3)), None, "`sequences.shape`"),
        (
            np.ones((2, 5, 3)),
            np.ones((2, 3)),
            r"`initial_state.shape` must be \(2, 4\). Received: initial_state.shape=\(2, 3\)",
        ),
    ],
)
def test_gates_reject_wrong_shapes(sequences, memory, message):
    with pytest.raises(ValueError, match=message):
        ks.GRU(4).gates(sequences, memory)


def test_gates_with_go_backwards_are_in_the_order_of_reading():
    layer = ks.GRU(UNITS, go_backwards=True, return_sequences=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    gates, memories = layer.gates(sequences), layer(sequences).numpy()
    before = np.concatenate([np.zeros((BATCH, 1, UNITS)), memories[:, :-1]], axis=1)
    np.testing.assert_allclose(gates.update * gates.candidate + (1 - gates.update) * before, memories, **FLOAT32)


def test_gates_take_the_initial_memory_alone_or_in_a_list():
    layer, sequences, memory = ks.GRU(UNITS), numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS)
    layer.build(sequences.shape)
    np.testing.assert_array_equal(layer.gates(sequences, [memory]).update, layer.gates(sequences, memory).update)


def test_gates_reject_a_symbolic_tensor():
    with pytest.raises(ValueError, match="`sequences` must be data"):
        ks.GRU(4).gates(keras.Input((5, 3)))


def test_gates_start_from_zeros():
    layer = ks.GRU(UNITS)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    sequences = numbers(BATCH, TIME, FEATURES)
    update, *_ = notes_gru(sequences, np.zeros((BATCH, UNITS)), layer.get_weights(), reset_after=True)
    np.testing.assert_allclose(layer.gates(sequences).update, update, **FLOAT32)


@pytest.mark.parametrize("bias", [-20.0, 20.0])
def test_an_update_gate_at_zero_keeps_the_memory_and_at_one_replaces_it(bias):
    cell = ks.GRUCell(UNITS)
    cell.build((None, FEATURES))
    weights = random_weights(cell)
    weights[2][0, :UNITS] = -bias  # the gate Keras stores is 1 - Γu
    cell.set_weights(weights)
    inputs, memory = numbers(BATCH, FEATURES), numbers(BATCH, UNITS, seed=9)
    output, [state] = cell(inputs, [memory])
    gates = cell.gates(inputs, memory)
    expected = memory if bias < 0 else gates.candidate.numpy()
    np.testing.assert_allclose(gates.update, float(bias > 0), atol=1e-6)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert output is state


def test_gradients_equal_finite_differences_of_the_equations():
    """Independent of Keras: the derivative along a random direction, from the equations in float64."""
    layer = ks.GRU(UNITS, return_sequences=True)
    layer.build((None, TIME, FEATURES))
    layer.set_weights(random_weights(layer))
    weights, sequences = layer.get_weights(), numbers(BATCH, TIME, FEATURES)
    directions = [numbers(*weight.shape, seed=70 + index).astype("float64") for index, weight in enumerate(weights)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(sequences))
    gradients = tape.gradient(loss, [weight.value for weight in layer.weights])

    def oracle(distance):
        moved = [weight + distance * direction for weight, direction in zip(weights, directions, strict=True)]
        return notes_gru(sequences, np.zeros((BATCH, UNITS)), moved, True)[-1].sum()

    slope = (oracle(1e-5) - oracle(-1e-5)) / 2e-5
    along = sum(float((g.numpy() * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert along == pytest.approx(slope, rel=1e-4)


def test_reset_gate_false_is_the_simplified_gru(tmp_path):
    layer = ks.GRU(UNITS, reset_gate=False, return_sequences=True)
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)
    layer.build(sequences.shape)
    assert [weight.shape for weight in layer.weights] == [(FEATURES, 10), (UNITS, 10), (10,)]
    layer.set_weights(random_weights(layer))
    update, candidate, memories = simplified(memory, layer.get_weights(), sequences)

    np.testing.assert_allclose(layer(sequences, initial_state=[memory]), memories, **FLOAT32)
    gates = layer.gates(sequences, initial_state=memory)
    np.testing.assert_allclose(gates.update, update, **FLOAT32)
    np.testing.assert_array_equal(gates.relevance, np.ones_like(update))
    np.testing.assert_allclose(gates.candidate, candidate, **FLOAT32)

    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.layers[0].reset_gate
    np.testing.assert_array_equal(loaded(sequences), model(sequences))


@pytest.mark.parametrize("arguments", [{"use_bias": False}, {"dropout": 0.4}, {"recurrent_dropout": 0.4}])
def test_the_simplified_gru_takes_the_other_arguments(arguments):
    layer = ks.GRU(UNITS, reset_gate=False, seed=3, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    layer.build(sequences.shape)
    assert len(layer.weights) == (2 if "use_bias" in arguments else 3)
    dropped = not np.allclose(layer(sequences, training=True), layer(sequences), atol=1e-3)
    assert dropped == ("use_bias" not in arguments)
