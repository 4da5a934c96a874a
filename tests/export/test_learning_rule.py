"""The rule by which a .tflite learns: the gradient against TensorFlow's, the shares against every sequence of candidates."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seq_export.learning_rule import Learned, features_of, learn_block, nothing_learned, projected_size

CANDIDATES = (0.0, 0.5, 1.0)
THIRD = np.log(1 / 3)


def random_block(random, tokens=64, vocabulary=9, features=5, scale=3.0):
    """Returns logits, features and next tokens."""
    logits, values = scale * random.normal(size=(tokens, vocabulary)), random.normal(size=(tokens, features))
    return logits, values, random.integers(0, vocabulary, tokens)


def random_learned(random, vocabulary=9, features=5, scale=1.0):
    shares = random.dirichlet([1, 1, 1])
    weights = scale * random.normal(size=(vocabulary, features))
    return Learned(weights.astype(np.float32), np.log(shares).astype(np.float32))


def log_probabilities(logits, values, next_tokens, weights, a):
    """Returns the log-probability of each next token, by TensorFlow, with W as a float64 variable."""
    every = tf.nn.log_softmax(logits + a * tf.matmul(values, weights, transpose_b=True))
    return tf.gather(every, next_tokens, batch_dims=1)


@pytest.mark.parametrize(
    ("tokens", "rate", "scale"), [(64, 12.0, 1.0), (64, 0.5, 0.0), (1, 12.0, 1.0), (23, 40.0, 0.1)]
)
def test_the_weights_follow_the_gradient(tokens, rate, scale):
    """W <- (1 - n / 100,000) W - rate * the gradient of the mean over 64 tokens of the cross-entropy at weight 1."""
    random = np.random.default_rng(tokens)
    (logits, values, next_tokens), learned = random_block(random, tokens), random_learned(random, scale=scale)
    before = tf.Variable(learned.weights.astype(np.float64))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(log_probabilities(logits, values, next_tokens, before, 1.0)) / 64
    expected = (1 - 1e-5 * tokens) * before.numpy() - rate * tape.gradient(loss, before).numpy()
    *_, now = learn_block(logits, values, next_tokens, rate, learned)
    assert np.linalg.norm(expected) < 100
    np.testing.assert_allclose(now.weights, expected, rtol=1e-5, atol=1e-6)


def test_the_log_probabilities_are_those_before_learning():
    random = np.random.default_rng(1)
    (logits, values, next_tokens), learned = random_block(random), random_learned(random)
    shares = np.exp(learned.log_shares.astype(np.float64))
    a = shares @ CANDIDATES / shares.sum()
    found, of_model, _ = learn_block(logits, values, next_tokens, 12.0, learned)
    wide = learned.weights.astype(np.float64)
    np.testing.assert_allclose(found, log_probabilities(logits, values, next_tokens, wide, a), rtol=1e-9)
    np.testing.assert_allclose(of_model, log_probabilities(logits, values, next_tokens, wide, 0.0), rtol=1e-9)
    assert found.dtype == of_model.dtype == np.float64


def posterior(likelihoods):
    """Returns the share of each candidate after some blocks, from the probability of every sequence of candidates.

    One candidate is right for each block. Before each block but the first, with probability 0.02, another choice is made:
    evenly among all three, the one before too.

    Args:
        likelihoods: the probability of each block under each candidate, `(blocks, 3)`.
    """
    total = np.zeros(3)
    for sequence in itertools.product(range(3), repeat=len(likelihoods) + 1):
        probability = 1 / 3
        for block, (one, other) in enumerate(itertools.pairwise(sequence)):
            switched = 0.02 / 3
            probability *= likelihoods[block][one] * (switched + (0.98 if one == other else 0))
        total[sequence[-1]] += probability
    return total / total.sum()


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    rate=st.sampled_from([0, 12]),
)
def test_the_shares_are_those_of_all_sequences_of_candidates(seed, tokens, rate):
    random = np.random.default_rng(seed)
    learned, likelihoods = nothing_learned(9, 5), []
    learned = Learned(random_learned(random).weights, learned.log_shares)
    for count in tokens:
        logits, values, next_tokens = random_block(random, count)
        wide = learned.weights.astype(np.float64)
        of_block = [log_probabilities(logits, values, next_tokens, wide, a).numpy().sum() for a in CANDIDATES]
        likelihoods.append(np.exp(of_block))
        *_, learned = learn_block(logits, values, next_tokens, rate, learned)
    expected = posterior(likelihoods)
    np.testing.assert_allclose(np.exp(learned.log_shares), expected, rtol=1e-5, atol=1e-7)
    assert learned.weight == pytest.approx(expected @ CANDIDATES, rel=1e-5)


def test_a_candidate_that_was_wrong_for_long_comes_back():
    """Its share is never below 0.02 / 3, so a few blocks suffice."""
    right = np.array([[0.0, 5.0]])
    learned = Learned(np.array([[0.0], [-10.0]], np.float32), np.float32([THIRD] * 3))

    def after(target, learned):
        *_, now = learn_block(np.repeat(right, 64, 0), np.ones((64, 1)), np.full(64, target), 0.0, learned)
        return now

    for _ in range(50):  # The model is right, and W makes it wrong.
        learned = after(1, learned)
    np.testing.assert_allclose(np.exp(learned.log_shares), [1 - 0.04 / 3, 0.02 / 3, 0.02 / 3], rtol=1e-4)
    assert learned.weight == pytest.approx(0.01, rel=1e-3)
    for _ in range(2):
        learned = after(0, learned)
    assert learned.weight == pytest.approx(0.99, rel=1e-3)


@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_the_norm_is_at_most_100(rate):
    random = np.random.default_rng(2)
    (logits, values, next_tokens), learned = random_block(random), random_learned(random)
    *_, unbounded = learn_block(logits, values, next_tokens, 1e-3 * rate, learned)
    *_, now = learn_block(logits, values, next_tokens, rate, learned)
    assert np.linalg.norm(now.weights.astype(np.float64)) == pytest.approx(100, rel=1e-6)
    if rate == 1e6:  # The gradient is all that counts, in the same direction.
        direction = now.weights / 100
        assert np.vdot(direction, unbounded.weights) == pytest.approx(np.linalg.norm(unbounded.weights), rel=1e-2)


def test_weights_within_the_norm_are_not_changed_by_it():
    learned = Learned(np.full((4, 4), 24.9, np.float32), np.float32([THIRD] * 3))  # A norm of 99.6.
    *_, now = learn_block(np.zeros((10, 4)), np.zeros((10, 4)), np.zeros(10, int), 12.0, learned)
    np.testing.assert_allclose(now.weights, learned.weights * (1 - 1e-4), rtol=1e-6)


def test_half_is_left_after_69_000_tokens():
    learned = Learned(np.ones((3, 2), np.float32), np.float32([THIRD] * 3))
    for _ in range(69_315 // 64):
        *_, learned = learn_block(np.zeros((64, 3)), np.zeros((64, 2)), np.zeros(64, int), 12.0, learned)
    np.testing.assert_allclose(learned.weights, 0.5, rtol=1e-3)


def test_what_was_given_is_not_changed():
    random = np.random.default_rng(3)
    block, learned = random_block(random), random_learned(random)
    copies = [array.copy() for array in (*block, *learned)]
    learn_block(*block, 12.0, learned)
    for array, copy in zip((*block, *learned), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_nothing_learned():
    weights, log_shares = nothing_learned(7, 4)
    np.testing.assert_array_equal(weights, np.zeros((7, 4), np.float32))
    np.testing.assert_array_equal(log_shares, np.float32([THIRD] * 3))
    assert weights.dtype == log_shares.dtype == np.float32
    assert nothing_learned(7, 4).weight == pytest.approx(0.5)


@pytest.mark.parametrize(("log_shares", "a"), [((-100, -100, 0), 1), ((0, -100, -100), 0), ((-1e3, 0, -1e3), 0.5)])
def test_the_weight_of_one_candidate_alone(log_shares, a):
    assert Learned(np.zeros((1, 1)), np.float32(log_shares)).weight == pytest.approx(a, abs=1e-40)


def test_the_features():
    states, projection = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), np.array([[1.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(features_of(states, projection), [[-2, 3, 0.3**0.5], [0, 0, 0.3**0.5]])


@given(vocabulary=st.integers(4, 524_288), units=st.integers(1, 10_000))
def test_the_number_of_features(vocabulary, units):
    """As many as fit 64,000 weights with the bias, 16 to 64, and at most one for each unit."""
    rows = projected_size(vocabulary, units)
    assert 1 <= rows <= min(units, 64)
    fits = (rows + 1) * vocabulary <= 64_000
    assert fits or rows == min(units, 16)
    if rows < min(units, 64):
        assert (rows + 2) * vocabulary > 64_000
