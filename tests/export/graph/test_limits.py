"""Limits of requests as large as an export may set them, in int64: products of lengths wrap in int32."""

import numpy as np
import pytest
import tensorflow as tf
from hamlet import CATS, tiny_model
from keras import layers
from sequence_models import chain, gru, speaker_as_initial_state

from keras_seq_export.graph.limits import MAX_LENGTH, MAX_STEPS, Limits
from keras_seq_export.graph.step import GraphStep

LARGEST = 2**31 - 1


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("most", [2**26, 2**29, 2**30, LARGEST])
def test_texts_pass_the_largest_limits(level, most):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def checked(text):
        with tf.control_dependencies(Limits(most).text_checks("text", text, level)):
            return tf.size(text)

    assert checked(tf.constant(["to be", ""])) == 2


def test_texts_above_the_limit_are_refused():
    assert list(Limits(2).text_checks("text", tf.constant(["é" * 4]), "char"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`text` must be at most 8 bytes in a row"):
        list(Limits(2).text_checks("text", tf.constant(["é" * 4 + "e"]), "char"))


@pytest.mark.parametrize("most", [2**30, LARGEST])
def test_sequences_pass_the_largest_limits(most):
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])])
    def checked(values):
        with tf.control_dependencies(Limits(most).sequence_checks("frames", values, frames=16)):
            return tf.size(values)

    assert checked(tf.zeros([2, 32, 3])) == 192


def test_sequences_above_the_limit_are_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def checked(values):
        with tf.control_dependencies(Limits(2).sequence_checks("frames", values, frames=4)):
            return tf.size(values)

    assert checked(tf.zeros([1, 8])) == 8
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`frames` must be at most 8 long"):
        checked(tf.zeros([1, 9]))


def test_the_default_depends_on_the_kind_of_model():
    """A second of 16 kHz audio has 16,000 steps. An encoder reads its source at once, which may take any memory."""
    sensor = GraphStep(chain((None, 3), gru(4), layers.Dense(2)), None)
    assert Limits.of(sensor, None).max_length == MAX_STEPS > 16_000
    assert Limits.of(GraphStep(tiny_model(CATS), CATS), None).max_length == MAX_LENGTH
    assert Limits.of(GraphStep(speaker_as_initial_state(), None), None).max_length == MAX_LENGTH
    assert Limits.of(sensor, np.int64(7)).max_length == 7
