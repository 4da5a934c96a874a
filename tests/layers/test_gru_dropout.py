"""What a GRU drops in training: inputs, memories and weights."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_gru import BATCH, FEATURES, TIME, UNITS, assert_same, numbers, pair, random_weights

import keras_seq as ks


@pytest.mark.parametrize(
    "arguments", [{"dropout": 0.4}, {"recurrent_dropout": 0.4}, {"dropout": 0.3, "recurrent_dropout": 0.4}]
)
@pytest.mark.parametrize("reset_after", [True, False])
def test_dropout_with_the_same_seed(arguments, reset_after):
    mine, stock = pair(reset_after=reset_after, seed=11, return_sequences=True, **arguments)
    sequences = numbers(BATCH, TIME, FEATURES)
    # The stock layer draws both masks before it looks whether its fused kernel runs, so both layers draw in one order.
    trained = mine(sequences, training=True)
    assert_same(trained, stock(sequences, training=True))
    assert_same(mine(sequences, training=False), stock(sequences, training=False))
    assert not np.allclose(trained, mine(sequences, training=False), atol=1e-2)
    # A new mask for every batch, and the same one over its steps.
    assert not np.allclose(trained, mine(sequences, training=True), atol=1e-2)


RECURRENT = [{}, {"reset_after": False}, {"reset_gate": False}]


@pytest.mark.parametrize("arguments", RECURRENT)
@pytest.mark.parametrize("kind", ["layer", "unrolled", "RNN of the cell", "in a graph"])
def test_dropped_weights_are_the_same_at_every_step_of_a_batch(kind, arguments):
    """Compares with a layer whose recurrent kernel lacks the weights that the seed drops."""
    options = {"weight_dropout": 0.4, "seed": 11, **arguments}
    layer = ks.GRU(UNITS, unroll=kind == "unrolled", **options)
    if kind == "RNN of the cell":
        layer = keras.layers.RNN(ks.GRUCell(UNITS, **options))
    other, sequences = ks.GRU(UNITS, **arguments), numbers(BATCH, TIME, FEATURES)
    for one in (other, layer):
        one.build((None, TIME, FEATURES))
        one.set_weights(random_weights(other))
    call = tf.function(layer) if kind == "in a graph" else layer
    for _ in range(2):
        seed = keras.random.SeedGenerator(11)
        seed.state.assign(layer.cell.seed_generator.state)
        kernel, recurrent_kernel, bias = random_weights(other)
        other.set_weights([kernel, np.asarray(keras.random.dropout(recurrent_kernel, 0.4, seed=seed)), bias])
        assert_same(call(sequences, training=True), other(sequences))
    other.set_weights(random_weights(other))
    assert_same(layer(sequences), other(sequences))


def test_weights_are_dropped_after_saving_and_loading(tmp_path):
    model = keras.Sequential([keras.Input((None, FEATURES)), ks.GRU(UNITS, weight_dropout=0.4)])
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").layers[0].weight_dropout == 0.4


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan, "a"])
def test_weight_dropout_out_of_range_is_rejected(share):
    with pytest.raises(ValueError, match="`weight_dropout` must be a number of at least 0 and below 1"):
        ks.GRU(4, weight_dropout=share)


def test_use_cudnn_with_weight_dropout_is_rejected():
    with pytest.raises(ValueError, match="`use_cudnn=True` cannot drop weights"):
        ks.GRU(UNITS, weight_dropout=0.1, use_cudnn=True)
