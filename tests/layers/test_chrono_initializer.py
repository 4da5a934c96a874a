import math

import keras
import numpy as np
import pytest

import keras_seq as ks


@pytest.mark.parametrize("shape", [(13,), (4, 12), (3, 2, 12)])
def test_a_shape_that_is_no_gru_bias_is_rejected(shape):
    with pytest.raises(
        ValueError, match=r"`shape` must be that of the bias of a GRU with 3 blocks\. Received: shape=\("
    ):
        ks.ChronoInitializer(9)(shape)


@pytest.mark.parametrize(("arguments", "gates"), [({}, 3), ({"reset_after": False}, 3), ({"reset_gate": False}, 2)])
def test_units_keep_their_memory_for_2_to_longest_steps(arguments, gates):
    initializer = ks.ChronoInitializer(longest=1000, gates=gates, seed=0)
    layer = ks.GRU(500, bias_initializer=initializer, **arguments)
    layer.build((None, None, 1))
    bias = layer.get_weights()[2].astype("float64").reshape(-1, gates * 500)
    keep = 1 / (1 + np.exp(-bias.sum(axis=0)[:500]))
    lasting = 1 / (1 - keep)
    assert (lasting > 1.99).all()
    assert (lasting < 1001).all()
    # Uniform over 2 to 1000: mean 501 with a standard error of 288 / sqrt(500) = 12.9; 4 of them.
    assert lasting.mean() == pytest.approx(501, abs=52)
    assert not bias[:, 500:].any()
    copy = keras.initializers.deserialize(keras.initializers.serialize(initializer))
    np.testing.assert_array_equal(copy((gates * 500,)), initializer((gates * 500,)))


def test_the_memory_lasts():
    """The initial memory is still there after a quarter of the longest time; with a zero bias it is gone."""
    kept = {}
    for name, initializer in (("zeros", "zeros"), ("chrono", ks.ChronoInitializer(longest=200, seed=0))):
        layer = ks.GRU(50, bias_initializer=initializer, kernel_initializer="zeros", recurrent_initializer="zeros")
        kept[name] = layer(np.zeros((1, 50, 1), "float32"), initial_state=[np.ones((1, 50), "float32")]).numpy()
    assert kept["zeros"].max() < 1e-10
    assert np.median(kept["chrono"]) > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"longest": 1}, "`longest` must"),
        ({"longest": math.inf}, "`longest` must"),
        ({"longest": "9"}, "`longest` must"),
        ({"longest": 9, "gates": 4}, "`gates`"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.ChronoInitializer(**arguments)


@pytest.mark.parametrize("arguments", [{"reset_gate": False}, {"bias_initializer": ks.ChronoInitializer(9, gates=2)}])
def test_the_layer_rejects_another_number_of_gates(arguments):
    with pytest.raises(ValueError, match=r"`gates` must be [23] in the ChronoInitializer of this layer"):
        ks.GRU(6, **{"bias_initializer": ks.ChronoInitializer(longest=9), **arguments})


def test_without_a_seed_it_follows_the_global_seed_of_keras():
    drawn = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        drawn.append(np.asarray(ks.ChronoInitializer(longest=9)((12,))).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
