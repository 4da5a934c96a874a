"""Derivatives of the GRU under every kind of gradient tape, against the stock layer in eager mode, in float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seq as ks

BATCH, TIME, FEATURES, UNITS = 2, 3, 2, 3
# float64 keeps 53 bits; a second derivative adds up some hundred products of numbers near 1.
FLOAT64 = {"rtol": 0, "atol": 1e-11}
MASK = np.array([[True, False, True], [False, True, True]])


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def layer_of(kind, **arguments):
    layer = kind(UNITS, dtype="float64", return_sequences=True, **arguments)
    layer.build((None, TIME, FEATURES))
    layer.set_weights([numbers(*weight.shape, seed=index) for index, weight in enumerate(layer.get_weights())])
    return layer


def loss_of(layer, sequences, memory):
    outputs = layer(sequences, initial_state=[memory], mask=tf.constant(MASK), training=True)
    return tf.reduce_sum(outputs * numbers(BATCH, TIME, UNITS, seed=7)) ** 2


def loss_in_a_branch(layer, sequences, memory):
    return tf.cond(sequences[0, 0, 0] < 9, lambda: loss_of(layer, sequences, memory), lambda: sequences[0, 0, 0])


def weights_of(layer):
    return [weight.value for weight in layer.trainable_weights]


def compiled(function):
    """Returns whether a traced function contains a part for XLA to compile."""
    return any("_XlaMustCompile" in part.attr for part in function.graph.as_graph_def().library.function)


# The functions below return what their names say, for the inputs, the initial memory and each weight.


def first_derivative(layer, sequences, memory):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([sequences, memory])
        loss = loss_of(layer, sequences, memory)
    return [*tape.gradient(loss, [sequences, memory]), *tape.gradient(loss, weights_of(layer))]


def first_derivative_around_a_branch(layer, sequences, memory):
    with tf.GradientTape() as tape:
        tape.watch([sequences, memory])
        loss = loss_in_a_branch(layer, sequences, memory)
    return tape.gradient(loss, [sequences, memory, *weights_of(layer)])


def first_derivative_under_a_tape(layer, sequences, memory):
    """The other tape records the backward pass alone, from `scale` on."""
    scale = tf.ones((), tf.float64)
    sources = [sequences, memory, *weights_of(layer)]
    with tf.GradientTape() as tape:
        tape.watch([sequences, memory])
        loss = loss_of(layer, sequences, memory)
    with tf.GradientTape(persistent=True) as other:
        other.watch(scale)
        gradients = tape.gradient(loss, sources, output_gradients=scale)
        norm = sum(tf.reduce_sum(one**2) for one in gradients)
    return [*gradients, other.gradient(norm, scale)]


def second_derivative(layer, sequences, memory, loss_of=loss_of):
    """The gradient of the squared norm of the gradients."""
    with tf.GradientTape() as outer:
        outer.watch([sequences, memory])
        with tf.GradientTape() as inner:
            inner.watch([sequences, memory])
            loss = loss_of(layer, sequences, memory)
        norm = sum(tf.reduce_sum(one**2) for one in inner.gradient(loss, [sequences, memory, *weights_of(layer)]))
    return outer.gradient(norm, [sequences, memory, *weights_of(layer)])


def second_derivative_of_a_traced_function(layer, sequences, memory):
    """The function was traced under one tape, so that it contains the fast path."""
    loss = tf.function(functools.partial(loss_in_a_branch, layer))
    with tf.GradientTape():
        loss(sequences, memory)
    return second_derivative(layer, sequences, memory, loss_of=lambda _, *inputs: loss(*inputs))


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("derivative", "expected", "is_fast", "reset_after"),
    [
        (first_derivative, first_derivative, False, True),
        (first_derivative_around_a_branch, first_derivative, True, True),
        slow(first_derivative_under_a_tape, first_derivative_under_a_tape, True, True),
        slow(second_derivative, second_derivative, False, True),
        (second_derivative_of_a_traced_function, second_derivative, True, True),
        slow(second_derivative_of_a_traced_function, second_derivative, True, False),
    ],
)
def test_derivatives_are_those_of_the_stock_layer(derivative, expected, is_fast, reset_after):
    inputs = tf.constant(numbers(BATCH, TIME, FEATURES, seed=8)), tf.constant(numbers(BATCH, UNITS, seed=9))
    mine = layer_of(ks.GRU, reset_after=reset_after)
    stock = layer_of(keras.layers.GRU, reset_after=reset_after, unroll=True)
    found = tf.function(functools.partial(derivative, mine), autograph=False)
    assert compiled(found.get_concrete_function(*inputs)) == is_fast
    for one, other in zip(found(*inputs), expected(stock, *inputs), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)
        assert np.abs(other).max() > 1e-3


def test_forward_mode_is_rejected():
    layer, sequences = layer_of(ks.GRU), tf.constant(numbers(BATCH, TIME, FEATURES))

    @tf.function
    def product():
        with tf.autodiff.ForwardAccumulator(sequences, tf.cos(sequences)) as accumulator:
            outputs = layer(sequences, training=True)
        return accumulator.jvp(outputs)

    with pytest.raises(
        NotImplementedError, match=r"`tf.autodiff.ForwardAccumulator`: build the layer with `unroll=True`"
    ):
        product()


def squares(layer, sequences):
    return tf.reduce_sum(layer(sequences, training=True) ** 2)


def jacobian(layer, sequences, tape, vectorized=True):
    with tape:
        tape.watch(sequences)
        outputs = tf.reduce_sum(layer(sequences, training=True), axis=[0, 1])
    return tape.jacobian(outputs, [sequences, *weights_of(layer)], experimental_use_pfor=vectorized)


def gradient_of(loss):
    """A function of a layer and sequences: the gradient of `loss(layer, sequences)` for the sequences and each weight."""

    def gradient(layer, sequences):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            result = loss(layer, sequences)
        return tape.gradient(result, [sequences, *weights_of(layer)])

    return gradient


def for_each_row(layer, sequences):
    def gradient(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            loss = squares(layer, row[None])
        return tape.gradient(loss, row)

    return [tf.vectorized_map(gradient, sequences)]


def under_two_tapes(layer, sequences):
    with tf.GradientTape() as outer, tf.GradientTape() as inner:
        outer.watch(sequences)
        inner.watch(sequences)
        loss = squares(layer, sequences)
    return [inner.gradient(loss, sequences), outer.gradient(loss, sequences)]


def in_a_case(layer, sequences):
    number = tf.cast(sequences[0, 0, 0] < 9, "int32")
    return tf.switch_case(number, [lambda: tf.reduce_sum(sequences), lambda: squares(layer, sequences)])


def in_a_loop(layer, sequences):
    def add(number, total):
        return number + 1, total + squares(layer, sequences * tf.cast(number, sequences.dtype))

    return tf.while_loop(lambda number, _: number < 3, add, (0, tf.zeros((), sequences.dtype)))[1]


def mapped(layer, sequences):
    return tf.reduce_sum(tf.map_fn(lambda row: layer(row[None], training=True)[0], sequences) ** 2)


def vectorized(layer, sequences):
    return tf.reduce_sum(tf.vectorized_map(lambda row: layer(row[None], training=True), sequences) ** 2)


def computed_again(layer, sequences):
    return tf.recompute_grad(lambda sequences: squares(layer, sequences))(sequences)


CONTEXTS = {
    "jacobian": lambda *given: jacobian(*given, tf.GradientTape()),
    "jacobian of a persistent tape": lambda *given: jacobian(*given, tf.GradientTape(persistent=True)),
    "jacobian in a loop": lambda *given: jacobian(*given, tf.GradientTape(persistent=True), vectorized=False),
    "vectorized gradients": for_each_row,
    "two tapes": under_two_tapes,
    **{loss.__name__: gradient_of(loss) for loss in (in_a_case, in_a_loop, mapped, vectorized, computed_again)},
}


# Outside of a graph, a loop takes less time than what traces and vectorizes it, and computes the same.
EXPECTED = {
    **CONTEXTS,
    "jacobian": CONTEXTS["jacobian in a loop"],
    "jacobian of a persistent tape": CONTEXTS["jacobian in a loop"],
    "vectorized": CONTEXTS["mapped"],
}


@pytest.mark.parametrize("context", [name if name in ("in_a_case", "vectorized") else slow(name) for name in CONTEXTS])
def test_unusual_contexts_give_what_the_stock_layer_gives(context):
    sequences = tf.constant(numbers(BATCH, TIME, FEATURES, seed=8))
    mine, stock = layer_of(ks.GRU), layer_of(keras.layers.GRU, unroll=True)
    found = tf.function(functools.partial(CONTEXTS[context], mine), autograph=False)(sequences)
    for one, other in zip(found, EXPECTED[context](stock, sequences), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)


@pytest.mark.parametrize(
    ("length", "with_custom_gradients"), [(None, False), slow(TIME, False), slow(None, True), slow(TIME, True)]
)
def test_a_traced_training_step_is_saved(length, with_custom_gradients, tmp_path):
    module = tf.Module()
    module.layer = layer_of(ks.GRU)
    module.weights = weights_of(module.layer)

    @tf.function(input_signature=[tf.TensorSpec((None, length, FEATURES), tf.float64)])
    def step(sequences):
        with tf.GradientTape() as tape:
            loss = squares(module.layer, sequences)
        return tape.gradient(loss, module.weights)

    module.step, sequences = step, tf.constant(numbers(BATCH, TIME, FEATURES))
    expected = step(sequences)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=with_custom_gradients)
    tf.saved_model.save(module, tmp_path, options=options)
    loaded = tf.saved_model.load(tmp_path)
    for one, other in zip(loaded.step(sequences), expected, strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)
