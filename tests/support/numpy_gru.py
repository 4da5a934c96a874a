"""The GRU in float64 NumPy, after the equations of `keras_seq.layers.gru_step`; and inputs and weights to compare layers."""

import keras
import numpy as np

import keras_seq as ks

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5
# float32 keeps 24 bits, and errors add up over TIME steps of values below 1: 6 * 6e-8, with room for the sums' order.
FLOAT32 = {"rtol": 0, "atol": 2e-6}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_weights(layer, seed=1):
    """Returns weights whose biases are not zero, so that each of them has an effect."""
    return [numbers(*weight.shape, seed=seed + index) * 0.5 for index, weight in enumerate(layer.get_weights())]


def pair(ours=None, **arguments):
    """Returns our layer and that of Keras, with the same arguments and the same weights."""
    mine = ks.GRU(UNITS, **arguments, **(ours or {}))
    stock = keras.layers.GRU(UNITS, **arguments)
    fixed = BATCH if arguments.get("stateful") else None
    for layer in (mine, stock):
        layer.build((fixed, TIME, FEATURES))
    stock.set_weights(random_weights(stock))
    mine.set_weights(stock.get_weights())
    return mine, stock


def assert_same(mine, stock, **tolerance):
    for one, other in zip(keras.tree.flatten(mine), keras.tree.flatten(stock), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one.numpy(), other.numpy(), **(tolerance or FLOAT32))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def notes_gru(sequences, memory, weights, reset_after):
    """Returns Γu, Γr, c~ and c' of every step, `(batch, time, units)`, computed gate by gate in float64.

    The weights are those of keep = 1 - Γu = σ(a), so Γu = σ(-a).
    """
    kernel, recurrent, bias = (np.asarray(weight, "float64") for weight in weights)
    input_bias, memory_bias = bias if reset_after else (bias, np.zeros_like(bias))
    columns = {"keep": slice(0, UNITS), "relevance": slice(UNITS, 2 * UNITS), "candidate": slice(2 * UNITS, None)}

    def affine(gate, x, c):
        part = columns[gate]
        return x @ kernel[:, part] + input_bias[part] + (c @ recurrent[:, part] + memory_bias[part])

    c, steps = np.asarray(memory, "float64"), []
    for x in np.swapaxes(np.asarray(sequences, "float64"), 0, 1):
        update = sigmoid(-affine("keep", x, c))
        relevance = sigmoid(affine("relevance", x, c))
        part = columns["candidate"]
        if reset_after:  # Γr * (Wc c + b): the form that cuDNN runs
            projected = relevance * (c @ recurrent[:, part] + memory_bias[part])
        else:  # Wc (Γr * c): the form of the notes
            projected = (relevance * c) @ recurrent[:, part]
        candidate = np.tanh(x @ kernel[:, part] + input_bias[part] + projected)
        c = update * candidate + (1 - update) * c
        steps.append((update, relevance, candidate, c))
    return [np.stack(values, axis=1) for values in zip(*steps, strict=True)]


def simplified(memory, weights, sequences):
    """Returns Γu, c~ and c' of every step of the simplified GRU, which has no Γr, in float64."""
    kernel, recurrent, bias = (np.asarray(weight, "float64") for weight in weights)
    c, steps = np.asarray(memory, "float64"), []
    for x in np.swapaxes(np.asarray(sequences, "float64"), 0, 1):
        sums = x @ kernel + c @ recurrent + bias
        update, candidate = sigmoid(-sums[:, :UNITS]), np.tanh(sums[:, UNITS:])
        c = update * candidate + (1 - update) * c
        steps.append((update, candidate, c))
    return [np.stack(values, axis=1) for values in zip(*steps, strict=True)]
