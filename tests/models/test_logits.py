"""Which outputs are probabilities, and their logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seq.models.logits import are_probabilities, as_logits

LOGITS = (np.random.default_rng(0).normal(size=(3, 4, 1000)) * 5).astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_a_softmax_has_probabilities_and_logits_are_none(dtype, scale):
    logits = tf.cast(LOGITS * scale, dtype)
    softmax = tf.nn.softmax(logits)
    assert bool(are_probabilities(softmax)) is are_probabilities(tf.cast(softmax, tf.float32).numpy()) is True
    assert not are_probabilities(logits)


@pytest.mark.parametrize(
    "outputs",
    [[[0.5, 0.6]], [[1.1, -0.1]], [[1.0, 0.0], [0.0, 0.0]], [[np.nan, 1.0]], [[np.inf, 0.0]]],
    ids=["sum", "negative", "one row of two", "nan", "inf"],
)
def test_other_outputs_are_not_probabilities(outputs):
    assert are_probabilities(np.array(outputs)) is False


def test_a_graph_decides_without_knowing_the_shape():
    decide = tf.function(are_probabilities, input_signature=[tf.TensorSpec((None, None, None))])
    assert decide(tf.nn.softmax(LOGITS))
    assert not decide(LOGITS)


def test_the_logits_of_probabilities_have_their_softmax():
    softmax = keras.ops.softmax(LOGITS * 5)
    assert float(keras.ops.min(softmax)) == 0  # It underflows.
    logits = as_logits(softmax, probabilities=True)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(keras.ops.softmax(logits), softmax, atol=1e-6)
    assert as_logits(LOGITS, probabilities=False) is LOGITS
