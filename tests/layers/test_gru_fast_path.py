"""The fast path of the GRU against automatic differentiation of its cell in the loop of Keras, in float64."""

from unittest.mock import Mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks
from keras_seq.layers import gru_fast_path

TIME, FEATURES, UNITS = 7, 4, 6
BATCH = 5
BATCH_IN_HALVES = gru_fast_path.SMALLEST_BATCH_TO_HALVE + 1
# float64 keeps 53 bits; sums of up to TIME * BATCH_IN_HALVES products of numbers near 1 lose a few of them.
FLOAT64 = {"rtol": 0, "atol": 1e-11}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def masks(batch):
    rows, steps = np.arange(batch)[:, None] % TIME, np.arange(TIME)
    return {
        "none": None,
        "left": steps >= rows,
        "right": steps < TIME - rows,
        "middle": numbers(batch, TIME, seed=3) > 0,
    }


def layer_of(**arguments):
    layer = ks.GRU(UNITS, dtype="float64", **arguments)
    layer.build((None, TIME, FEATURES))
    layer.set_weights([numbers(*weight.shape, seed=index) for index, weight in enumerate(layer.get_weights())])
    return layer


def outputs_and_gradients(layer, training, mask=None, batch=BATCH, signature=None):
    """Returns all outputs, and the gradients of a weighted sum of them for the inputs, the initial memory and each weight."""
    sequences, memory = tf.constant(numbers(batch, TIME, FEATURES)), tf.constant(numbers(batch, UNITS, seed=8))
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function(input_signature=signature)
    def run(sequences, memory):
        with tf.GradientTape() as tape:
            tape.watch([sequences, memory])
            outputs = keras.tree.flatten(layer(sequences, initial_state=[memory], mask=mask, training=training))
            shapes = [(batch, *one.shape[1:]) for one in outputs]
            total = sum(
                tf.reduce_sum(one * numbers(*shape, seed=7)) for one, shape in zip(outputs, shapes, strict=True)
            )
        return [*outputs, *tape.gradient(total, [sequences, memory, *weights])]

    return run(sequences, memory), compiled(run.get_concrete_function(sequences, memory))


def in_training(layer, sequences, **options):
    with tf.GradientTape():
        return layer(sequences, training=True, **options)


def compiled(function):
    """Returns whether a traced function contains a part for XLA to compile."""
    return any("_XlaMustCompile" in part.attr for part in function.graph.as_graph_def().library.function)


def assert_fast_path_is_right(layer, mask=None, batch=BATCH, **more):
    fast, is_compiled = outputs_and_gradients(layer, True, mask, batch, **more)
    plain, plain_is_compiled = outputs_and_gradients(layer, False, mask, batch)
    assert is_compiled
    assert not plain_is_compiled
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.parametrize("mask", masks(BATCH))
@pytest.mark.parametrize("reset_after", [True, False])
def test_outputs_and_gradients_are_those_of_automatic_differentiation(reset_after, mask):
    layer = layer_of(reset_after=reset_after, return_sequences=True, return_state=True)
    assert_fast_path_is_right(layer, masks(BATCH)[mask])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_state": True},
        {"return_sequences": True, "go_backwards": True},
        {"return_sequences": True, "use_bias": False},
        {"use_bias": False, "reset_after": False},
        {"return_sequences": True, "zero_output_for_mask": True},
    ],
    ids=lambda arguments: "-".join(arguments) or "last",
)
def test_arguments_that_the_fast_path_supports(arguments):
    assert_fast_path_is_right(layer_of(**arguments), masks(BATCH)["middle"])


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_batch_in_two_halves(reset_after):
    layer = layer_of(reset_after=reset_after, return_sequences=True)
    assert_fast_path_is_right(layer, masks(BATCH_IN_HALVES)["middle"], BATCH_IN_HALVES)


@pytest.mark.parametrize("batch", [1, 2, BATCH_IN_HALVES])
def test_unknown_batch(batch):
    layer = layer_of(return_sequences=True, return_state=True)
    signature = [tf.TensorSpec([None, TIME, FEATURES], tf.float64), tf.TensorSpec([None, UNITS], tf.float64)]
    assert_fast_path_is_right(layer, batch=batch, signature=signature)


def test_many_units_multiply_transposed(monkeypatch):
    monkeypatch.setattr(gru_fast_path, "SMALLEST_UNITS_TO_TRANSPOSE", UNITS)
    assert_fast_path_is_right(layer_of(return_sequences=True), masks(BATCH_IN_HALVES)["right"], BATCH_IN_HALVES)


@pytest.mark.parametrize("reset_after", [True, False])
def test_masked_steps_may_be_nan(reset_after):
    layer = layer_of(reset_after=reset_after, return_sequences=True)
    mask = masks(BATCH)["middle"]
    sequences = np.where(mask[:, :, None], numbers(BATCH, TIME, FEATURES), np.nan)
    train = tf.function(lambda: in_training(layer, sequences, mask=mask))
    np.testing.assert_allclose(train(), layer(sequences, mask=mask), **FLOAT64)
    assert compiled(train.get_concrete_function())


@pytest.mark.parametrize("kind", ["int32", "float32", "column"])
def test_masks_of_other_dtypes_and_shapes(kind):
    mask = masks(BATCH)["middle"]
    layer = layer_of(return_sequences=True)
    fast, is_compiled = outputs_and_gradients(layer, True, mask[:, :, None] if kind == "column" else mask.astype(kind))
    plain, _ = outputs_and_gradients(layer, False, mask)
    assert is_compiled
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


def test_an_initial_memory_of_unknown_shape():
    layer = layer_of(return_sequences=True)
    sequences, memory = tf.constant(numbers(BATCH, TIME, FEATURES)), tf.constant(numbers(BATCH, UNITS))
    train = tf.function(lambda memory: in_training(layer, sequences, initial_state=[memory]))
    found = train.get_concrete_function(tf.TensorSpec([None, None], tf.float64))
    assert compiled(found)
    np.testing.assert_allclose(found(memory), layer(sequences, initial_state=[memory]), **FLOAT64)


@pytest.mark.parametrize("kind", ["dropout", "weight_dropout"])
def test_dropout_draws_one_mask_for_all_steps_as_keras_does(kind):
    layers = [layer_of(**{kind: 0.4}, seed=11, return_sequences=True, unroll=unroll) for unroll in (False, True)]
    (fast, is_compiled), (plain, _) = (outputs_and_gradients(layer, True) for layer in layers)
    assert is_compiled
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


def test_float32():
    layer = ks.GRU(UNITS, return_sequences=True)
    sequences = numbers(BATCH_IN_HALVES, TIME, FEATURES).astype("float32")
    trained = tf.function(lambda: in_training(layer, sequences))()
    assert trained.dtype == tf.float32
    np.testing.assert_allclose(trained, layer(sequences), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"recurrent_dropout": 0.2},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"unroll": True},
        {"reset_gate": False},
        {"dropout": 0.2, "implementation": 1},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_other_arguments_run_in_the_loop_of_keras(arguments):
    layer = ks.GRU(UNITS, **arguments)
    sequences = tf.constant(numbers(BATCH, TIME, FEATURES), "float32")
    train = tf.function(lambda: in_training(layer, sequences))
    assert train().shape == (BATCH, UNITS)
    assert not compiled(train.get_concrete_function())


def test_inference_eager_calls_and_unknown_lengths_run_in_the_loop_of_keras():
    layer = layer_of(return_sequences=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    assert not compiled(tf.function(lambda: layer(sequences)).get_concrete_function())
    # As where a model is exported that keeps its dropout.
    assert not compiled(tf.function(lambda: layer(sequences, training=True)).get_concrete_function())
    np.testing.assert_allclose(layer(sequences, training=True), layer(sequences), **FLOAT64)
    train = tf.function(lambda sequences: in_training(layer, sequences))
    signature = tf.TensorSpec([BATCH, None, FEATURES], tf.float64)
    assert not compiled(train.get_concrete_function(signature))
    np.testing.assert_allclose(train(sequences), layer(sequences), **FLOAT64)


def plain(gru):
    return keras.Sequential([keras.Input((None, FEATURES)), gru(UNITS), keras.layers.Dense(1)])


def masked_both_ways(gru):
    both_ways = keras.layers.Bidirectional(gru(UNITS, return_sequences=True))
    return keras.Sequential([keras.Input((None, FEATURES)), keras.layers.Masking(), both_ways, gru(3)])


def stateful(gru):
    layers = [gru(UNITS, stateful=True, return_sequences=True), gru(1, stateful=True)]
    return keras.Sequential([keras.Input(batch_shape=(BATCH_IN_HALVES, TIME, FEATURES)), *layers])


def encoder_and_decoder(gru):
    sequences = keras.Input((None, FEATURES))
    _, memory = gru(UNITS, return_state=True)(sequences)
    return keras.Model(sequences, gru(UNITS)(sequences, initial_state=memory))


@pytest.mark.parametrize("build", [plain, masked_both_ways, stateful, encoder_and_decoder])
def test_fit_takes_the_same_steps_as_with_the_stock_layer(build, monkeypatch):
    losses, fast = [], Mock(wraps=gru_fast_path.run)
    monkeypatch.setattr(gru_fast_path, "run", fast)
    sequences = numbers(4 * BATCH_IN_HALVES, TIME, FEATURES).astype("float32")
    sequences[::3, -2:] = 0  # for Masking
    for layer in (ks.GRU, keras.layers.GRU):
        keras.utils.set_random_seed(0)
        model = build(layer)
        model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse")
        history = model.fit(
            sequences, sequences[:, 0, :1], batch_size=BATCH_IN_HALVES, epochs=3, shuffle=False, verbose=0
        )
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert fast.called
