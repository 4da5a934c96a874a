"""Checks of the fast path of recurrent layers against automatic differentiation in the loop of Keras, in float64.

The loop of Keras runs outside of a graph: tracing and compiling it would take most of the time of a check.
"""

from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

import keras_seq as ks
from keras_seq.layers import fast_loops, fast_path

TIME, FEATURES, UNITS = 7, 4, 6
BATCH = 5
BATCH_IN_HALVES = fast_path.SMALLEST_BATCH_TO_HALVE + 1
# float64 keeps 53 bits; sums of up to TIME * BATCH_IN_HALVES products of numbers near 1 lose a few of them.
FLOAT64 = {"rtol": 0, "atol": 1e-11}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def clear_traces():
    """For a test that changes what the functions were traced with, before and after it."""
    for cached in (fast_path._eager_run, fast_path._forward_pass, fast_path._backward_pass, fast_loops.compiled):
        cached.cache_clear()


def masks(batch):
    rows, steps = np.arange(batch)[:, None] % TIME, np.arange(TIME)
    return {
        "none": None,
        "left": steps >= rows,
        "right": steps < TIME - rows,
        "middle": numbers(batch, TIME, seed=3) > 0,
    }


def layer_of(kind=ks.GRU, **arguments):
    layer = kind(UNITS, dtype="float64", **arguments)
    layer.build((None, TIME, FEATURES))
    layer.set_weights([numbers(*weight.shape, seed=index) for index, weight in enumerate(layer.get_weights())])
    return layer


def outputs_and_gradients(layer, training, mask=None, batch=BATCH, signature=None, is_traced=True):
    """Returns all outputs, and the gradients of a weighted sum of them for the inputs, the initial states and each weight.

    Beside them it returns whether they were traced with a part for XLA to compile.
    """
    sequences = tf.constant(numbers(batch, TIME, FEATURES))
    states = [tf.constant(numbers(batch, UNITS, seed=8 + index)) for index in range(np.size(layer.cell.state_size))]
    weights = [weight.value for weight in layer.trainable_weights]

    def run(sequences, *states):
        with tf.GradientTape() as tape:
            tape.watch([sequences, *states])
            outputs = keras.tree.flatten(layer(sequences, initial_state=states, mask=mask, training=training))
            shapes = [(batch, TIME, UNITS) if len(one.shape) == 3 else (batch, UNITS) for one in outputs]
            total = sum(
                tf.reduce_sum(one * numbers(*shape, seed=7 + index))
                for index, (one, shape) in enumerate(zip(outputs, shapes, strict=True))
            )
        return [*outputs, *tape.gradient(total, [sequences, *states, *weights])]

    if not is_traced:
        return run(sequences, *states), False
    traced = tf.function(run, input_signature=signature)
    return traced(sequences, *states), compiled(traced.get_concrete_function(sequences, *states))


def in_training(layer, sequences, **options):
    with tf.GradientTape():
        return layer(sequences, training=True, **options)


def compiled(function):
    """Returns whether a traced function contains a part for XLA to compile."""
    return any("_XlaMustCompile" in part.attr for part in function.graph.as_graph_def().library.function)


def plain_outputs_and_gradients(layer, training, mask=None, batch=BATCH):
    """What `outputs_and_gradients` returns first, from the loop of Keras."""
    with patch.object(fast_path, "is_available", return_value=False):
        return outputs_and_gradients(layer, training, mask, batch, is_traced=False)[0]


def assert_fast_path_is_right(layer, mask=None, batch=BATCH, **more):
    fast, is_compiled = outputs_and_gradients(layer, True, mask, batch, **more)
    assert is_compiled
    for one, other in zip(fast, plain_outputs_and_gradients(layer, False, mask, batch), strict=True):
        np.testing.assert_allclose(one, other, **FLOAT64)
