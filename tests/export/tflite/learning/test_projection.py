"""The projection of states to features: what it keeps, and units of any size or without any value."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from learning_oracle import features_of_file

import keras_seq as ks
from keras_seq_export import LiteRTSampler
from keras_seq_export.learning_rule import projected_size
from keras_seq_export.tflite.learning.projection import _states_of_own_text, feature_projection

VOCABULARY = ks.Vocabulary.from_text("abcdefgh")


def made_step(units, sizes=1.0, seed=0, rank=None):
    """Returns the step of a random recurrent model whose states have these sizes, in two parts."""
    random = np.random.default_rng(seed)
    rank = rank or units
    into = tf.constant(random.normal(size=(len(VOCABULARY), rank)), tf.float32)
    recurrent = tf.constant(random.normal(size=(rank, rank)) / rank**0.5, tf.float32)
    out = tf.constant(random.normal(size=(rank, units)) if rank < units else np.eye(units), tf.float32)
    scale = tf.constant(np.broadcast_to(sizes, units), tf.float32)
    first = units // 2

    class Made(SimpleNamespace):
        def initial_states(self, rows):
            return [tf.zeros([rows, first]), tf.zeros([rows, units - first]), tf.zeros([rows, rank])][
                : 2 if rank == units else 3
            ]

        def __call__(self, tokens, states):
            memory = states[2] if rank < units else tf.math.divide_no_nan(tf.concat(states, 1), scale)
            memory = tf.tanh(tf.gather(into, tokens) + memory @ recurrent)
            new = (memory @ out) * scale
            states = [new[:, :first], new[:, first:], memory]
            return 0.5 * memory @ tf.transpose(into), states[: 2 if rank == units else 3]

    return Made()


def projection_and_states(step, vocabulary=VOCABULARY):
    return feature_projection(step, vocabulary).astype(np.float64), _states_of_own_text(step, vocabulary).astype(
        np.float64
    )


@pytest.mark.parametrize("sizes", [1.0, 1e-6, 1e6, np.logspace(-3, 3, 40)], ids=["1", "small", "large", "mixed"])
def test_the_mean_square_is_1_whatever_the_size_of_the_states(sizes):
    projection, states = projection_and_states(made_step(40, sizes))
    assert projection.shape == (40, 40)
    assert np.isfinite(projection).all()
    assert np.square(states @ projection.T).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)


def test_the_features_are_orthogonal_and_fall_with_the_square_root_of_their_size():
    """After each unit is divided by its root mean square, they are principal components over the fourth root of theirs."""
    projection, states = projection_and_states(made_step(40, np.logspace(-2, 2, 40)))
    size = np.sqrt(np.square(states).mean(axis=0))
    directions = projection * size
    products = directions @ directions.T
    lengths = np.sqrt(np.diag(products))
    np.testing.assert_allclose(products / np.outer(lengths, lengths), np.eye(40), atol=1e-4)
    features = states @ projection.T
    moments = features.T @ features / len(features)
    strengths = np.diag(moments)
    np.testing.assert_allclose(moments, np.diag(strengths), atol=1e-4 * strengths.max())
    assert (np.diff(strengths) < 1e-9).all()
    standard = states / size
    components = np.linalg.svd(standard, compute_uv=False) ** 2 / len(standard)
    np.testing.assert_allclose(strengths / strengths[0], np.sqrt(components / components[0]), rtol=1e-3)


def test_units_that_do_not_move_have_no_part():
    sizes = np.ones(40)
    sizes[[0, 7, 30]] = 0
    sizes[5] = 1e-30  # Below the rounding of the others; its inverse is above float32.
    projection, states = projection_and_states(made_step(40, sizes))
    assert np.isfinite(projection).all()
    assert not projection[:, [0, 5, 7, 30]].any()
    assert np.square(states @ projection.T).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    assert (np.abs(projection).max(axis=1) > 0).sum() == 36


def test_directions_without_movement_are_features_of_zero():
    """The 60 states move in 8 directions only: the others hold rounding errors, which would be made large."""
    projection, states = projection_and_states(made_step(60, rank=8))
    features = states @ projection.T
    assert projection.shape == (projected_size(len(VOCABULARY), 68), 68)
    moving = np.square(features).mean(axis=0) > 1e-9
    assert 8 <= moving.sum() <= 16
    assert not projection[~moving].any()
    assert np.abs(projection).max() < 100


def test_a_model_whose_states_are_all_zero():
    projection = feature_projection(made_step(12, 0.0), VOCABULARY)
    np.testing.assert_array_equal(projection, np.zeros((12, 12), np.float32))


@pytest.mark.parametrize(("units", "features"), [(1, 1), (5, 5), (64, 64), (65, 64), (300, 64)])
def test_fewer_or_more_units_than_features(units, features):
    projection, states = projection_and_states(made_step(units))
    assert projection.shape == (features, units)
    assert np.square(states @ projection.T).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["stack", "lstm", pytest.param("start", marks=pytest.mark.slow)])
def test_the_size_holds_in_longer_texts(name, learning_file):
    """The memory of an LSTM grows for hundreds of tokens: features that grew with it would make learning diverge."""
    sampler = LiteRTSampler(learning_file(name)[0])
    text = sampler.sample(max_tokens=1000, seed=99, bias={"<eos>": -np.inf})
    features = features_of_file(sampler.decoder, [sampler.vocabulary.start_id, *text.token_ids])
    squares = np.square(features[:, :-1]).sum(axis=1)
    for part in np.array_split(squares, 4):
        assert 0.3 < part.mean() < 2.5
