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


@pytest.mark.parametrize(
    ("derivative", "expected", "is_fast", "reset_after"),
    [
        (first_derivative, first_derivative, False, True),
        (first_derivative_around_a_branch, first_derivative, True, True),
        (first_derivative_under_a_tape, first_derivative_under_a_tape, True, True),
        (second_derivative, second_derivative, False, True),
        (second_derivative_of_a_traced_function, second_derivative, True, True),
        (second_derivative_of_a_traced_function, second_derivative, True, False),
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
