"""The fast path of `LSTM` and `SimpleRNN` against automatic differentiation of the cell in the loop of Keras, in float64."""

from unittest.mock import patch

import keras
import numpy as np
import pytest
import tensorflow as tf
from fast_path_checks import (
    BATCH,
    BATCH_IN_HALVES,
    FEATURES,
    FLOAT64,
    TIME,
    UNITS,
    assert_fast_path_is_right,
    clear_traces,
    compiled,
    in_training,
    layer_of,
    masks,
    numbers,
    outputs_and_gradients,
    plain_outputs_and_gradients,
)

import keras_seq as ks
from keras_seq.layers import fast_layer, fast_path, fast_products

KINDS = [ks.LSTM, ks.SimpleRNN]


@pytest.mark.parametrize("mask", ["none", "middle"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_automatic_differentiation(kind, mask):
    layer = layer_of(kind, return_sequences=True, return_state=True)
    assert_fast_path_is_right(layer, masks(BATCH)[mask])


@pytest.mark.parametrize(
    "arguments",
    [
        {"use_bias": False, "activation": "elu"},
        {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True, "activation": None},
    ],
    ids="-".join,
)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_that_the_fast_path_supports(kind, arguments):
    assert_fast_path_is_right(layer_of(kind, **arguments), masks(BATCH)["middle"])


def test_another_activation_of_the_gates():
    layer = layer_of(ks.LSTM, activation="softsign", recurrent_activation="hard_sigmoid", return_state=True)
    assert_fast_path_is_right(layer, masks(BATCH)["left"])


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_batch_and_length_in_halves_and_parts(kind, monkeypatch):
    monkeypatch.setattr("keras_seq.layers.fast_parts.LONGEST_PART", 2)
    clear_traces()
    layer = layer_of(kind, return_sequences=True, return_state=True)
    states = [tf.TensorSpec([None, UNITS], tf.float64)] * np.size(layer.cell.state_size)
    signature = [tf.TensorSpec([None, None, FEATURES], tf.float64), *states]
    mask = masks(BATCH_IN_HALVES)["middle"]
    assert_fast_path_is_right(layer, mask, BATCH_IN_HALVES, signature=signature)
    clear_traces()


@pytest.mark.parametrize("kind", KINDS)
def test_many_units_multiply_transposed(kind, monkeypatch):
    monkeypatch.setattr(fast_products, "SMALLEST_UNITS_TO_TRANSPOSE", UNITS)
    clear_traces()
    layer = layer_of(kind, return_sequences=True, return_state=True)
    assert_fast_path_is_right(layer, masks(BATCH_IN_HALVES)["right"], BATCH_IN_HALVES)
    clear_traces()


@pytest.mark.parametrize(
    ("kind", "options"),
    [(ks.SimpleRNN, {}), (ks.LSTM, {"implementation": 1}), (ks.LSTM, {"implementation": 2})],
    ids=str,
)
@pytest.mark.parametrize(
    "dropped",
    [pytest.param({"dropout": 0.3}, marks=pytest.mark.slow), {"dropout": 0.3, "recurrent_dropout": 0.4}],
    ids=str,
)
def test_dropout_draws_its_masks_for_all_steps_as_keras_does(kind, options, dropped):
    arguments = {**dropped, **options, "seed": 11, "return_sequences": True}
    fast, is_compiled = outputs_and_gradients(layer_of(kind, **arguments), True)
    assert is_compiled
    for one, other in zip(fast, plain_outputs_and_gradients(layer_of(kind, **arguments), True), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.parametrize("kind", [ks.GRU, *KINDS])
@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_a_layer_that_drops_everything_runs_in_the_loop_of_keras(kind, name):
    layer, stock = (one(UNITS, **{name: 1.0}, seed=1) for one in (kind, getattr(keras.layers, kind.__name__)))
    sequences = numbers(BATCH, TIME, FEATURES).astype("float32")
    for one in (layer, stock):
        one.build(sequences.shape)
    stock.set_weights(layer.get_weights())
    found, expected = (tf.function(lambda one=one: in_training(one, sequences))() for one in (layer, stock))
    # `ks.GRU` computes the same equations in its own order, which some CPUs round differently.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_and_jacobians(kind):
    layer, stock = (layer_of(one) for one in (kind, getattr(keras.layers, kind.__name__)))
    sequences = tf.constant(numbers(2, 3, FEATURES))

    def derivatives(layer):
        with tf.GradientTape() as outer:
            outer.watch(sequences)
            with tf.GradientTape() as tape:
                tape.watch(sequences)
                loss = tf.reduce_sum(layer(sequences, training=True) ** 2)
            first = tape.gradient(loss, sequences)
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            outputs = layer(sequences, training=True)
        return outer.gradient(first, sequences), tape.jacobian(outputs, sequences)

    for one, other in zip(tf.function(derivatives)(layer), derivatives(stock), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_traced_under_one_tape_is_differentiated_twice(kind):
    layer, stock = (layer_of(one) for one in (kind, getattr(keras.layers, kind.__name__)))
    sequences = tf.constant(numbers(2, 3, FEATURES))

    def gradient(layer, sequences):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            loss = tf.reduce_sum(layer(sequences, training=True) ** 2)
        return tape.gradient(loss, sequences)

    traced = tf.function(lambda sequences: gradient(layer, sequences))
    traced(sequences)
    found = []
    for function in (traced, lambda sequences: gradient(stock, sequences)):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            first = function(sequences)
        found.append(tape.gradient(first, sequences))
    np.testing.assert_allclose(*found, **FLOAT64)


@pytest.mark.parametrize("dtype", ["int64", "bool"])
@pytest.mark.parametrize("kind", [ks.GRU, *KINDS])
def test_inputs_that_are_no_floating_point(kind, dtype):
    layer, stock = (layer_of(one) for one in (kind, getattr(keras.layers, kind.__name__)))
    sequences = tf.cast(numbers(BATCH, TIME, FEATURES) * 3, dtype)

    def gradients(layer):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(sequences, training=True) ** 2)
        return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    for one, other in zip(tf.function(gradients)(layer), gradients(stock), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


class Halving:
    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training=training)
        return output / 2, states


class HalvingLSTMCell(Halving, keras.layers.LSTMCell):
    pass


class HalvingGRUCell(Halving, ks.GRUCell):
    pass


@pytest.mark.parametrize(("kind", "cell"), [(ks.LSTM, HalvingLSTMCell), (ks.GRU, HalvingGRUCell)])
def test_a_cell_of_the_user_runs_in_the_loop_of_keras(kind, cell):
    layer, usual = kind(UNITS, dtype="float64"), layer_of(kind)
    layer.cell = cell(UNITS, dtype="float64")
    layer.build((None, TIME, FEATURES))
    layer.cell.set_weights(usual.get_weights())
    sequences = numbers(BATCH, TIME, FEATURES)
    halved = tf.function(lambda: in_training(layer, sequences))()
    np.testing.assert_allclose(halved, in_training(usual, sequences) / 2, **FLOAT64)


@pytest.mark.parametrize("dropped", [{}, {"recurrent_dropout": 0.4}], ids=str)
@pytest.mark.parametrize("kind", [ks.GRU, *KINDS])
def test_one_row_of_initial_states_is_that_of_all_rows_and_another_number_is_refused(kind, dropped):
    fast, plain = (layer_of(kind, seed=5, unroll=unroll, **dropped) for unroll in (False, True))
    count = np.size(fast.cell.state_size)
    signature = [tf.TensorSpec([None, TIME, FEATURES], tf.float64), tf.TensorSpec([None, UNITS], tf.float64)]
    sequences, memory = numbers(BATCH, TIME, FEATURES), numbers(1, UNITS)
    run = tf.function(lambda x, memory: in_training(fast, x, initial_state=[memory] * count), signature)
    expected = in_training(plain, sequences, initial_state=[memory] * count)
    np.testing.assert_allclose(run(sequences, memory), expected, **FLOAT64)
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(sequences, numbers(BATCH - 1, UNITS))


def encoder_and_decoder(kind):
    sequences = keras.Input((None, FEATURES))
    _, *states = keras.layers.Bidirectional(kind(4, return_state=True))(keras.layers.Masking()(sequences))
    forward, backward = states[: len(states) // 2], states[len(states) // 2 :]
    initial = [keras.layers.concatenate([one, other]) for one, other in zip(forward, backward, strict=True)]
    return keras.Model(sequences, kind(8)(sequences, initial_state=initial))


def stateful(kind):
    layers = [kind(UNITS, stateful=True, return_sequences=True), kind(1, stateful=True)]
    return keras.Sequential([keras.Input(batch_shape=(BATCH_IN_HALVES, TIME, FEATURES)), *layers])


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        (ks.SimpleRNN, stateful),
        pytest.param(ks.LSTM, encoder_and_decoder, marks=pytest.mark.slow),
        pytest.param(ks.LSTM, stateful, marks=pytest.mark.slow),
        pytest.param(ks.SimpleRNN, encoder_and_decoder, marks=pytest.mark.slow),
    ],
)
def test_fit_takes_the_same_steps_as_with_the_stock_layer(kind, build):
    losses = []
    sequences = numbers(2 * BATCH_IN_HALVES, TIME, FEATURES).astype("float32")
    sequences[::3, -2:] = 0  # for Masking
    with patch.object(fast_path, "run", wraps=fast_path.run) as fast:
        for one in (kind, getattr(keras.layers, kind.__name__)):
            keras.utils.set_random_seed(0)
            model = build(one)
            model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse", run_eagerly=one is not kind)
            history = model.fit(
                sequences, sequences[:, 0, :1], batch_size=BATCH_IN_HALVES, epochs=3, shuffle=False, verbose=0
            )
            losses.append(history.history["loss"])
        assert fast.called
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_saved_exported_and_has_the_configuration_of_keras(kind, tmp_path):
    model = keras.Sequential([keras.Input((TIME, FEATURES)), kind(UNITS, name="memory")])
    sequences = numbers(BATCH, TIME, FEATURES).astype("float32")
    expected = model(sequences)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("memory")) is kind
    np.testing.assert_array_equal(loaded(sequences), expected)
    model.export(tmp_path / "served", verbose=False)
    assert not compiled(tf.saved_model.load(tmp_path / "served").signatures["serving_default"])
    stock = getattr(keras.layers, kind.__name__).from_config(model.get_layer("memory").get_config())
    stock.build(sequences.shape)
    stock.set_weights(model.get_weights())
    np.testing.assert_array_equal(stock(sequences), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_argument_is_refused_as_by_keras(kind):
    with pytest.raises(ValueError, match="expected a positive integer, got 0"):
        kind(0)


EAGER = 4


@pytest.fixture
def short_is_long(monkeypatch):
    """Sequences of a few steps take the fast path outside of a graph, so that the loop of Keras takes little time."""
    monkeypatch.setattr(fast_layer, "SMALLEST_EAGER_LENGTH", EAGER)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ks.GRU, *KINDS])
def test_long_sequences_take_the_fast_path_outside_of_a_graph(kind, short_is_long):
    clear_traces()
    layer, stock = (layer_of(one, return_state=True) for one in (kind, getattr(keras.layers, kind.__name__)))
    layers = {"fast": layer, "stock": stock}
    found = {name: [] for name in layers}
    with patch.object(fast_path, "run", wraps=fast_path.run) as fast:
        for rows, length in ((2, EAGER), (3, EAGER + 1), (2, EAGER + 2)):
            sequences = tf.constant(numbers(rows, length, FEATURES))
            for name, one in layers.items():
                with tf.GradientTape() as tape:
                    tape.watch(sequences)
                    outputs = one(sequences)
                    loss = sum(tf.reduce_sum(output**2) for output in outputs)
                gradients = tape.gradient(loss, [sequences, *(weight.value for weight in one.trainable_weights)])
                found[name] += [*outputs, *one(sequences), *gradients]
        # Traced for two sizes, with and without a tape. The trace for the second size serves all further ones.
        assert fast.call_count == 4
    clear_traces()
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.parametrize("kind", [ks.GRU, *KINDS])
def test_one_or_several_dropout_masks_outside_of_a_graph(kind, short_is_long):
    sequences = numbers(2, EAGER, FEATURES)
    options = [{"implementation": one} for one in (2, 1)] if kind is not ks.SimpleRNN else [{}]
    for option in options:
        fast, plain = (layer_of(kind, dropout=0.3, seed=4, unroll=unroll, **option) for unroll in (False, True))
        np.testing.assert_allclose(fast(sequences, training=True), plain(sequences, training=True), **FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("is_eager", [True, False])
def test_jacobians_where_the_length_is_unknown(is_eager, short_is_long):
    layer, stock = layer_of(), layer_of(keras.layers.GRU)
    length = EAGER if is_eager else 2
    found, expected = [], []

    def jacobian(layer, sequences, is_vectorized=True):
        with tf.GradientTape(persistent=not is_vectorized) as tape:
            tape.watch(sequences)
            outputs = layer(sequences, training=True)
        return tape.jacobian(outputs, sequences, experimental_use_pfor=is_vectorized)

    traced = tf.function(
        lambda sequences: jacobian(layer, sequences), [tf.TensorSpec((None, None, FEATURES), tf.float64)]
    )
    for rows in (1, 2):  # Outside of a graph, the size is unknown from the second one on.
        sequences = tf.constant(numbers(rows, length + rows, FEATURES))
        found.append(jacobian(layer, sequences) if is_eager else traced(sequences))
        expected.append(jacobian(stock, sequences, is_vectorized=False))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


def test_forward_mode_outside_of_a_graph_differentiates_the_loop_of_keras(short_is_long):
    layer, stock = layer_of(), layer_of(keras.layers.GRU)
    sequences, tangents = tf.constant(numbers(2, EAGER, FEATURES)), tf.constant(numbers(2, EAGER, FEATURES, seed=1))
    found = []
    for one in (layer, stock):
        with tf.autodiff.ForwardAccumulator(sequences, tangents) as accumulator:
            outputs = one(sequences)
        found.append(accumulator.jvp(outputs))
    np.testing.assert_allclose(*found, **FLOAT64)
