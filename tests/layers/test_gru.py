"""`keras_seq.GRU` as a drop-in replacement for `keras.layers.GRU`."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src import backend
from numpy_gru import BATCH, FEATURES, FLOAT32, TIME, UNITS, assert_same, notes_gru, numbers, pair, random_weights

import keras_seq as ks
from keras_seq.keras_internals import mask_of

try:  # The wheel of Keras contains its tests.
    from keras.src.layers.rnn import gru_test
except ImportError:
    gru_test = None


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_sequences": True},
        {"return_state": True},
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"unroll": True, "return_sequences": True},
        {"use_bias": False},
        {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
        {"implementation": 1},
    ],
    ids=str,
)
def test_equals_the_stock_layer_with_the_same_weights(arguments, reset_after):
    mine, stock = pair(reset_after=reset_after, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    assert_same(mine(sequences), stock(sequences))


def test_weights_are_exchangeable_with_the_stock_layer():
    mine, stock = pair(return_sequences=True)
    assert [w.shape for w in mine.weights] == [w.shape for w in stock.weights]
    assert [w.name for w in mine.weights] == [w.name for w in stock.weights]
    mine.set_weights(random_weights(mine, seed=50))
    sequences = numbers(BATCH, TIME, FEATURES)
    assert not np.allclose(mine(sequences), stock(sequences), atol=1e-2)
    stock.set_weights(mine.get_weights())
    assert_same(mine(sequences), stock(sequences))


MASKS = {
    "left": [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]],
    "middle": [[1, 0, 0, 1, 1, 1], [1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 0]],
}


@pytest.mark.parametrize("side", MASKS)
def test_masked_steps_do_not_change_the_memory(side):
    mask = np.array(MASKS[side], bool)
    mine, stock = pair(return_sequences=True, return_state=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    output, state = mine(sequences, mask=tf.constant(mask))
    stock_output, stock_state = stock(sequences, mask=tf.constant(mask))
    assert_same(state, stock_state)
    # The fused stock kernel gives zeros at steps masked on the right; real steps must agree.
    assert_same(output[mask], stock_output[mask])
    for row, kept in enumerate(mask):  # the same row with its masked steps cut out
        *_, memories = notes_gru(sequences[row : row + 1, kept], np.zeros((1, UNITS)), mine.get_weights(), True)
        np.testing.assert_allclose(output[row][kept], memories[0], **FLOAT32)
        np.testing.assert_allclose(state[row], memories[0, -1], **FLOAT32)


def test_layers_after_it_get_the_mask():
    masked = keras.layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    np.testing.assert_array_equal(mask_of(ks.GRU(UNITS, return_sequences=True)(masked)), [[True, False]])


def test_zero_output_for_mask():
    mask = np.array(MASKS["middle"], bool)
    layer = ks.GRU(UNITS, return_sequences=True, zero_output_for_mask=True)
    output = layer(numbers(BATCH, TIME, FEATURES), mask=tf.constant(mask)).numpy()
    assert (output[~mask] == 0).all()
    assert (output[mask] != 0).any(axis=-1).all()


def test_starts_from_the_given_memory():
    mine, stock = pair(return_sequences=True)
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(BATCH, UNITS, seed=9)
    assert_same(mine(sequences, initial_state=[memory]), stock(sequences, initial_state=[memory]))
    assert not np.allclose(mine(sequences, initial_state=[memory]), mine(sequences), atol=1e-2)


def test_stateful_carries_the_memory_until_it_is_reset():
    mine, stock = pair(stateful=True, return_sequences=True)
    sequences = numbers(BATCH, 2 * TIME, FEATURES)
    halves = [sequences[:, :TIME], sequences[:, TIME:]]
    whole = stock(sequences).numpy()
    stock.reset_state()
    carried = np.concatenate([mine(half).numpy() for half in halves], axis=1)
    np.testing.assert_allclose(carried, whole, **FLOAT32)
    mine.reset_state()
    np.testing.assert_allclose(mine(halves[0]), whole[:, :TIME], **FLOAT32)


def test_mixed_float16_policy():
    mine, stock = pair(dtype="mixed_float16", return_sequences=True, return_state=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    results = mine(sequences)
    assert [result.dtype for result in results] == [tf.float16, tf.float16]
    assert {weight.dtype for weight in mine.weights} == {"float32"}
    # float16 keeps 11 bits: 2**-11 a rounding, a few a step.
    assert_same(results, stock(sequences), rtol=0, atol=4e-3)
    *_, memories = notes_gru(sequences, np.zeros((BATCH, UNITS)), mine.get_weights(), True)
    np.testing.assert_allclose(results[0], memories, rtol=0, atol=2e-2)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gradients_equal_the_stock_layers(reset_after):
    mine, stock = pair(reset_after=reset_after, return_sequences=True)
    sequences, direction = tf.constant(numbers(BATCH, TIME, FEATURES)), numbers(BATCH, TIME, UNITS, seed=7)

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            loss = tf.reduce_sum(layer(sequences) * direction)
        return tape.gradient(loss, [sequences, *[weight.value for weight in layer.trainable_weights]])

    # Sums over BATCH * TIME terms of size up to about 3.
    assert_same(gradients(mine), gradients(stock), rtol=1e-5, atol=1e-5)


def test_config_holds_every_argument_and_rebuilds_the_layer():
    arguments = {
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "unroll": True,
        "zero_output_for_mask": True,
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": False,
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "reset_after": False,
        "seed": 3,
        "trainable": False,
        "name": "memory",
    }
    layer = ks.GRU(
        UNITS,
        kernel_regularizer=keras.regularizers.L2(0.01),
        activity_regularizer=keras.regularizers.L1(0.02),
        dtype="mixed_float16",
        **arguments,
    )
    config = layer.get_config()
    copy = ks.GRU.from_config(config)
    assert {name: config[name] for name in arguments} == arguments
    assert copy.get_config() == config
    assert copy.units == UNITS
    assert copy.cell.dtype_policy.name == "mixed_float16"
    assert float(copy.cell.kernel_regularizer.l2) == pytest.approx(0.01)
    assert float(copy.activity_regularizer.l1) == pytest.approx(0.02)


def wrapped(kind):
    if kind == "GRU":
        return ks.GRU(UNITS, return_sequences=True)
    if kind == "Bidirectional":
        return keras.layers.Bidirectional(ks.GRU(UNITS, return_sequences=True))
    if kind == "RNN":
        return keras.layers.RNN(ks.GRUCell(UNITS), return_sequences=True)
    return keras.layers.RNN([ks.GRUCell(UNITS), keras.layers.LSTMCell(3)], return_sequences=True)


@pytest.mark.parametrize("kind", ["GRU", "Bidirectional", "RNN", "StackedRNNCells"])
def test_saving_loading_and_cloning(kind, tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), wrapped(kind), keras.layers.Dense(2)])
    sequences = numbers(BATCH, TIME, FEATURES)
    expected = model(sequences).numpy()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(sequences), expected)
    clone = keras.models.clone_model(model)
    assert not np.allclose(clone(sequences), expected, atol=1e-4)  # new weights
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(sequences), expected)


def test_bidirectional_and_rnn_of_the_cell_equal_the_stock_ones():
    sequences = numbers(BATCH, TIME, FEATURES)
    for mine, stock in (
        (wrapped("Bidirectional"), keras.layers.Bidirectional(keras.layers.GRU(UNITS, return_sequences=True))),
        (wrapped("RNN"), keras.layers.RNN(keras.layers.GRUCell(UNITS), return_sequences=True)),
        (
            wrapped("stack"),
            keras.layers.RNN([keras.layers.GRUCell(UNITS), keras.layers.LSTMCell(3)], return_sequences=True),
        ),
    ):
        for layer in (mine, stock):
            layer.build((None, TIME, FEATURES))
        stock.set_weights(random_weights(stock))
        mine.set_weights(stock.get_weights())
        assert_same(mine(sequences), stock(sequences))


@pytest.mark.skipif(gru_test is None, reason="this Keras comes without its tests")
class TestKerasOwnTests(gru_test.GRUTest if gru_test else object):
    """The tests that Keras has for `keras.layers.GRU`, with ours in its place."""

    test_torch_cudnn_dispatch_fires = None  # Keras skips it on every backend except PyTorch.

    @pytest.fixture(autouse=True)
    def ours_in_its_place(self, monkeypatch):
        monkeypatch.setattr("keras.src.layers.GRU", ks.GRU)


def test_positional_arguments_are_those_of_keras():
    positional = (UNITS, "relu", "hard_sigmoid", False, "ones")
    mine, stock = ks.GRU(*positional), keras.layers.GRU(*positional)
    assert {**mine.get_config(), "name": stock.name} == stock.get_config()
    sequences = numbers(BATCH, TIME, FEATURES)
    mine.build(sequences.shape)
    stock.build(sequences.shape)
    mine.set_weights(stock.get_weights())
    assert_same(mine(sequences), stock(sequences))
    cell, stock_cell = ks.GRUCell(*positional), keras.layers.GRUCell(*positional)
    assert {**stock_cell.get_config(), "name": cell.name} == cell.get_config()


def test_every_public_attribute_of_the_stock_layer_exists():
    mine, stock = pair(stateful=True, dropout=0.1)

    def public(layer):
        return {name for name, _ in inspect.getmembers(layer) if not name.startswith("_")}

    assert public(stock) <= public(mine)
    assert isinstance(mine, keras.layers.GRU)


def test_units_may_be_a_numpy_integer():
    assert type(ks.GRU(np.int64(UNITS)).get_config()["units"]) is int


def test_time_distributed_equals_the_stock_one():
    mine, stock = (keras.layers.TimeDistributed(layer(UNITS)) for layer in (ks.GRU, keras.layers.GRU))
    videos = numbers(BATCH, 2, TIME, FEATURES)
    mine(videos), stock(videos)
    mine.set_weights(stock.get_weights())
    assert_same(mine(videos), stock(videos))


def test_weights_files_and_models_of_the_stock_layer_load(tmp_path):
    sequences = numbers(BATCH, TIME, FEATURES)
    mine, stock = (
        keras.Sequential([keras.Input((None, FEATURES)), layer(UNITS)]) for layer in (ks.GRU, keras.layers.GRU)
    )
    stock.save_weights(tmp_path / "stock.weights.h5")
    mine.load_weights(tmp_path / "stock.weights.h5")
    assert_same(mine(sequences), stock(sequences))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains_as_the_stock_layer_does(policy):
    mine, stock = pair(dtype=policy, return_sequences=True)
    exact, _ = pair(return_sequences=True)
    sequences = tf.constant(numbers(BATCH, TIME, FEATURES))

    def gradients(layer):
        @tf.function
        def run():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(sequences, training=True), "float32"))
            return tape.gradient(loss, [weight.value for weight in layer.weights])

        return run()

    for found, of_stock, expected in zip(*map(gradients, (mine, stock, exact)), strict=True):
        # float16 keeps 11 bits, bfloat16 8.
        assert_same(found, of_stock, rtol=2**-7, atol=2**-7 if policy == "mixed_float16" else 2**-4)
        assert np.abs(found - expected).mean() < 1.2 * np.abs(of_stock - expected).mean()


def test_use_cudnn_without_the_reset_gate_is_rejected():
    with pytest.raises(ValueError, match="`use_cudnn=True` needs the reset gate"):
        ks.GRU(UNITS, reset_gate=False, use_cudnn=True)


def test_on_a_gpu_keras_calls_cudnn(monkeypatch):
    """On a machine with a GPU the fast path is off, and Keras calls cuDNN with the weights of our cell."""
    asked = []

    def cudnn(*arguments, **named):
        asked.append(named)
        raise NotImplementedError

    monkeypatch.setattr("keras_seq.layers.fast_path.is_available", lambda: False)
    # In `keras.src.backend` up to Keras 3.15, and in its module `rnn` from 3.16 on.
    monkeypatch.setattr(backend if hasattr(backend, "gru") else backend.rnn, "gru", cudnn)
    layer, sequences = ks.GRU(UNITS), tf.constant(numbers(BATCH, TIME, FEATURES))
    tf.function(lambda: layer(sequences, training=True))()
    assert asked[0]["kernel"] is layer.cell.kernel
    assert asked[0]["reset_after"] is True


@pytest.mark.parametrize("gru", [ks.GRU, keras.layers.GRU])
@pytest.mark.parametrize(
    "arguments", [{"unroll": True}, {"recurrent_dropout": 0.1, "dropout": 0.1}, {"dropout": 0.1, "implementation": 1}]
)
def test_use_cudnn_is_rejected_where_keras_rejects_it(gru, arguments):
    with pytest.raises(ValueError, match="use_cudnn=True was specified"):
        gru(UNITS, use_cudnn=True, **arguments)(numbers(BATCH, TIME, FEATURES))


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", None, True])
def test_units_out_of_range_are_rejected(units):
    with pytest.raises(ValueError, match=r"`units` must be a positive integer\. Received: units="):
        ks.GRU(units)


def test_an_unknown_argument_is_rejected_by_name():
    with pytest.raises((TypeError, ValueError), match="no_such_argument"):
        ks.GRU(4, no_such_argument=1)
