"""Weights in 8 bits whose scales are related, and biases with which no sum is a tie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_seq_export.tflite.integer import weights as integer_weights

MATRICES = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-8, 8, width=32))


@given(MATRICES, st.floats(1, 1.99))
def test_a_scale_of_a_mantissa_is_the_mantissa_times_a_power_of_two(matrix, mantissa):
    found = integer_weights.weights_of_mantissa(matrix, mantissa)
    power = np.log2(found.scale / mantissa)
    assert power == pytest.approx(round(power))
    assert np.abs(found.values.astype(int)).max() <= 127


@given(MATRICES, st.floats(1, 1.99))
def test_no_power_of_two_has_a_smaller_error(matrix, mantissa):
    found = integer_weights.weights_of_mantissa(matrix, mantissa)

    def error(scale):
        values = np.clip(np.rint(matrix / np.float32(scale)), -127, 127)
        return np.square(values * np.float32(scale) - matrix).sum()

    for power in (-2, -1, 1, 2):
        assert error(found.scale) <= error(found.scale * 2.0**power) + 1e-6


def test_matrices_of_different_sizes_agree_on_a_mantissa():
    generator = np.random.default_rng(0)
    matrices = [generator.normal(size=(64, 64)).astype(np.float32) * size for size in (1, 1.4, 0.3)]
    mantissa = integer_weights.common_mantissa(matrices)
    assert 1 <= mantissa < 2
    assert mantissa * 2**15 == int(mantissa * 2**15)
    for matrix in matrices:
        best, found = integer_weights.best_weights(matrix), integer_weights.weights_of_mantissa(matrix, mantissa)
        errors = [np.square(one.values * np.float32(one.scale) - matrix).sum() for one in (best, found)]
        assert errors[1] < 2 * errors[0]


@given(MATRICES, st.floats(1e-5, 0.01))
def test_a_table_is_an_integer_times_a_scale(matrix, scale):
    found, factor = integer_weights.weights_of_factor(matrix, scale)
    assert found.scale == factor * scale
    assert factor >= 1


@given(arrays(np.float32, 7, elements=st.floats(-100, 100, width=32)), st.floats(1e-6, 1e-3))
def test_biases_are_two_more_than_a_multiple_of_four(values, scale):
    found = integer_weights.biases(values, scale)
    assert (found % 4 == 2).all()
    np.testing.assert_allclose(found * scale, values, atol=2 * scale + 1e-6)
