"""The fast path of the GRU, and what all layers share, against automatic differentiation of the loop of Keras."""

from unittest.mock import Mock

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
from keras_seq.layers import fast_activations, fast_parts, fast_path, fast_products
from keras_seq.layers.keras2_hard_sigmoid import keras2_hard_sigmoid


# Each form reads a mask in the same code, so that one mask of the second form is in the fast suite.
@pytest.mark.parametrize(
    ("reset_after", "mask"),
    [
        *((True, mask) for mask in masks(BATCH)),
        (False, "middle"),
        *(pytest.param(False, mask, marks=pytest.mark.slow) for mask in ("none", "left", "right")),
    ],
)
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
        {"reset_gate": False},
        {"activation": "relu", "return_sequences": True},
        {"activation": "linear", "recurrent_activation": "hard_sigmoid", "reset_after": False},
        {"activation": "elu", "recurrent_activation": "softsign", "reset_gate": False},
        {"recurrent_activation": keras2_hard_sigmoid, "return_sequences": True},
        {"implementation": 1, "return_sequences": True},
    ],
    ids=lambda arguments: "-".join(arguments) or "last",
)
def test_arguments_that_the_fast_path_supports(arguments):
    assert_fast_path_is_right(layer_of(**arguments), masks(BATCH)["middle"])


@pytest.mark.parametrize("name", fast_activations.ACTIVATIONS)
def test_every_activation_has_its_own_slope(name):
    argument = tf.constant(numbers(400) * 4)
    function = keras2_hard_sigmoid if name == "keras2_hard_sigmoid" else keras.activations.get(name)
    with tf.GradientTape() as tape:
        tape.watch(argument)
        expected = function(argument)
    activation = fast_activations.ACTIVATIONS[fast_activations.name_of(function)]
    kept = activation.kept(argument)
    np.testing.assert_allclose(activation.value(kept), expected, **FLOAT64)
    np.testing.assert_allclose(activation.slope(kept), tape.gradient(expected, argument), **FLOAT64)


FORMS = [{}, {"reset_after": False}, {"reset_gate": False}]
# They differ in the arithmetic of a step, which the tests above have for each of them in the fast suite.
ONE_FORM_IS_FAST = [FORMS[0], *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:])]


@pytest.mark.parametrize(
    ("arguments", "batch", "longest"),
    [
        ({}, 1, 2),  # parts and a rest
        *(pytest.param(form, 1, 2, marks=pytest.mark.slow) for form in FORMS[1:]),
        pytest.param({}, BATCH_IN_HALVES, 7, marks=pytest.mark.slow),  # a whole part
        ({}, BATCH_IN_HALVES, 32),  # less than a part
    ],
    ids=str,
)
def test_unknown_length(arguments, batch, longest, monkeypatch):
    monkeypatch.setattr(fast_parts, "LONGEST_PART", longest)
    clear_traces()
    layer = layer_of(return_sequences=True, return_state=True, **arguments)
    signature = [tf.TensorSpec([None, None, FEATURES], tf.float64), tf.TensorSpec([None, UNITS], tf.float64)]
    assert_fast_path_is_right(layer, masks(batch)["middle"], batch, signature=signature)
    clear_traces()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 13, 16, 17, 25, 32, 33, 100, 1000])
def test_half_a_batch_is_filled_up_to_one_of_a_few_sizes(count):
    size = int(fast_path._size_of_rows(tf.constant(count)))
    assert count <= size <= max(4 * count / 3, count * 1.25 + 3)


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
    monkeypatch.setattr(fast_products, "SMALLEST_UNITS_TO_TRANSPOSE", UNITS)
    clear_traces()
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
    assert is_compiled
    for one, other in zip(fast, plain_outputs_and_gradients(layer, True, mask), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


def test_an_initial_memory_of_unknown_shape():
    layer = layer_of(return_sequences=True)
    sequences, memory = tf.constant(numbers(BATCH, TIME, FEATURES)), tf.constant(numbers(BATCH, UNITS))
    train = tf.function(lambda memory: in_training(layer, sequences, initial_state=[memory]))
    found = train.get_concrete_function(tf.TensorSpec([None, None], tf.float64))
    assert compiled(found)
    np.testing.assert_allclose(found(memory), layer(sequences, initial_state=[memory]), **FLOAT64)


BOTH = {"dropout": 0.3, "recurrent_dropout": 0.4}


@pytest.mark.parametrize(
    ("dropped", "implementation", "form"),
    [
        *(({kind: 0.4}, 2, {}) for kind in ("dropout", "recurrent_dropout", "weight_dropout")),
        *((BOTH, implementation, {}) for implementation in (2, 1)),
        *(
            pytest.param(BOTH, implementation, form, marks=pytest.mark.slow)
            for implementation in (2, 1)
            for form in FORMS[1:]
        ),
    ],
    ids=str,
)
def test_dropout_draws_its_masks_for_all_steps_as_keras_does(dropped, implementation, form):
    arguments = {**dropped, **form, "implementation": implementation, "seed": 11, "return_sequences": True}
    batch = BATCH_IN_HALVES if implementation == 1 else BATCH
    fast, is_compiled = outputs_and_gradients(layer_of(**arguments), True, batch=batch)
    plain = plain_outputs_and_gradients(layer_of(**arguments, unroll=True), True, batch=batch)
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
    ("arguments", "reason"),
    [
        ({"unroll": True}, "`unroll=True`"),
        ({"activation": lambda x: keras.ops.tanh(x)}, "its activation is <function"),
        ({"recurrent_activation": "softmax"}, "its recurrent activation is <function softmax"),
    ],
    ids=["unroll", "an activation of the user", "softmax"],
)
def test_other_arguments_run_in_the_loop_of_keras_and_the_log_says_why(arguments, reason, caplog):
    layer = ks.GRU(UNITS, **arguments)
    sequences = tf.constant(numbers(BATCH, TIME, FEATURES), "float32")
    train = tf.function(lambda: in_training(layer, sequences))
    with caplog.at_level("INFO", logger="keras_seq"):
        assert train().shape == (BATCH, UNITS)
    assert f"{layer.name} runs in the loop of Keras: {reason}" in caplog.text
    assert not compiled(train.get_concrete_function())


def test_graphs_without_a_tape_have_nothing_compiled():
    layer = layer_of(return_sequences=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    assert not compiled(tf.function(lambda: layer(sequences)).get_concrete_function())
    # As where a model is exported that keeps its dropout.
    assert not compiled(tf.function(lambda: layer(sequences, training=True)).get_concrete_function())
    np.testing.assert_allclose(layer(sequences, training=True), layer(sequences), **FLOAT64)


@pytest.mark.parametrize("form", ONE_FORM_IS_FAST, ids=str)
def test_evaluate_and_predict_take_the_fast_path_and_an_export_does_not(form, tmp_path, monkeypatch):
    layer = ks.GRU(UNITS, return_sequences=True, **form)
    model = keras.Sequential([keras.Input((None, FEATURES)), keras.layers.Masking(), layer])
    sequences = numbers(BATCH_IN_HALVES, TIME, FEATURES).astype("float32")
    sequences[::3, -2:] = 0  # for Masking
    expected = model(sequences).numpy()
    fast = Mock(wraps=fast_path.run)
    monkeypatch.setattr(fast_path, "run", fast)
    np.testing.assert_allclose(model.predict(sequences, batch_size=12, verbose=0), expected, rtol=0, atol=2e-6)
    assert fast.called
    fast.reset_mock()
    model.compile(loss="mse")
    assert model.evaluate(sequences, expected + 1, verbose=0) == pytest.approx(1, abs=1e-5)
    assert fast.called
    fast.reset_mock()
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(loaded.serve(sequences), expected, rtol=0, atol=2e-6)
    assert not fast.called


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_computed_in_float32(dtype):
    half, whole = (ks.GRU(UNITS, dtype=kind, return_sequences=True) for kind in (dtype, "float32"))
    sequences = tf.cast(numbers(BATCH, TIME, FEATURES), half.compute_dtype)
    for layer in (half, whole):
        layer.build((None, TIME, FEATURES))
        weights = [numbers(*weight.shape, seed=index) for index, weight in enumerate(layer.get_weights())]
        layer.set_weights([tf.cast(tf.cast(one, half.compute_dtype), "float32") for one in weights])
    trained = tf.function(lambda: in_training(half, sequences))()
    expected = tf.function(lambda: in_training(whole, tf.cast(sequences, "float32")))()
    assert trained.dtype == half.compute_dtype
    np.testing.assert_array_equal(trained, tf.cast(expected, half.compute_dtype))


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


# In the fast suite, test_fast_layers.py has the other models, for layers that share all but the arithmetic of a step.
@pytest.mark.parametrize(
    "build",
    [masked_both_ways, *(pytest.param(one, marks=pytest.mark.slow) for one in (plain, stateful, encoder_and_decoder))],
)
def test_fit_takes_the_same_steps_as_with_the_stock_layer(build, monkeypatch):
    losses, fast = [], Mock(wraps=fast_path.run)
    monkeypatch.setattr(fast_path, "run", fast)
    sequences = numbers(4 * BATCH_IN_HALVES, TIME, FEATURES).astype("float32")
    sequences[::3, -2:] = 0  # for Masking
    for layer in (ks.GRU, keras.layers.GRU):
        keras.utils.set_random_seed(0)
        model = build(layer)
        model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse", run_eagerly=layer is keras.layers.GRU)
        history = model.fit(
            sequences, sequences[:, 0, :1], batch_size=BATCH_IN_HALVES, epochs=3, shuffle=False, verbose=0
        )
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert fast.called


def frozen(gru):
    layer = gru(UNITS, return_sequences=True)
    layer.trainable = False
    return keras.Sequential([keras.Input((None, FEATURES)), layer, gru(3)])


class OwnFunction(keras.Model):
    """A model whose layers run in a function of the user, which `predict` traces and `fit` uses again."""

    def __init__(self, gru):
        super().__init__()
        self.memory, self.last = gru(UNITS), keras.layers.Dense(1)

    def build(self, shape):
        self.memory.build(shape)
        self.last.build((None, UNITS))

    def call(self, sequences):
        return self.run(sequences)

    @tf.function
    def run(self, sequences):
        return self.last(self.memory(sequences))


@pytest.mark.slow
@pytest.mark.parametrize("build", [frozen, OwnFunction])
def test_fit_after_predict_and_with_frozen_layers(build):
    sequences, found = numbers(BATCH_IN_HALVES, TIME, FEATURES).astype("float32"), []
    for layer in (ks.GRU, keras.layers.GRU):
        keras.utils.set_random_seed(0)
        model = build(layer)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        predicted = model.predict(sequences, verbose=0)
        model.fit(sequences, sequences[:, 0, :1], epochs=2, verbose=0)
        found.append((predicted, model.predict(sequences, verbose=0)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [TIME, None])
def test_a_function_that_xla_compiles_as_a_whole(length):
    layer = layer_of(return_sequences=True)

    def gradient(sequences):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(sequences, training=True) ** 2)
        return tape.gradient(loss, [weight.value for weight in layer.weights])

    whole = tf.function(gradient, [tf.TensorSpec((BATCH, length, FEATURES), tf.float64)], jit_compile=True)
    sequences = numbers(BATCH, TIME, FEATURES)
    for one, other in zip(whole(sequences), gradient(sequences), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.parametrize("shape", [(TIME, BATCH), (BATCH, TIME + 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    layer, sequences = ks.GRU(UNITS), numbers(BATCH, TIME, FEATURES).astype("float32")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        tf.function(lambda: in_training(layer, sequences, mask=np.ones(shape, bool)))()


def test_a_mask_for_all_rows_and_features_that_are_unknown():
    layer, sequences = layer_of(return_sequences=True), numbers(BATCH, TIME, FEATURES)
    mask = np.arange(TIME)[None] < 4
    train = tf.function(
        lambda sequences: in_training(layer, sequences, mask=mask),
        input_signature=[tf.TensorSpec((None, None, None), tf.float64)],
    )
    np.testing.assert_allclose(train(sequences), layer(sequences, mask=np.tile(mask, (BATCH, 1))), **FLOAT64)
