"""`gradient_flow` against the chain rule in NumPy and against finite differences."""

import csv

import keras
import numpy as np
import pytest
from random_weights import randomized

import keras_seq as ks
from keras_seq.analysis.gradient_flow import FlowCurve, gradient_flow, windows, write_flow
from keras_seq.errors import ArgumentError, SteppingError

VOCABULARY = ks.Vocabulary.from_text("abcdefg\n")


def linear_model(units=5):
    keras.utils.set_random_seed(2)
    layers = [
        keras.layers.Embedding(len(VOCABULARY), 4, name="embedding"),
        keras.layers.SimpleRNN(units, activation=None, return_sequences=True, name="rnn"),
        keras.layers.Dense(len(VOCABULARY), name="logits"),
    ]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def test_a_linear_rnn_multiplies_by_its_recurrent_kernel_once_per_step():
    model, random = linear_model(), np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(random.normal(scale=0.6, size=weight.shape))
    tokens = random.integers(0, len(VOCABULARY), (3, 13))
    logits = np.asarray(model(tokens[:, :-1])[:, -1], np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    upstream = probabilities - np.eye(len(VOCABULARY))[tokens[:, -1]]
    by_state = upstream @ np.asarray(model.get_layer("logits").kernel, np.float64).T
    recurrent = np.asarray(model.get_layer("rnn").cell.recurrent_kernel, np.float64)
    expected = []
    for _ in range(12):
        by_state = by_state @ recurrent.T
        expected.append(np.linalg.norm(by_state, axis=1).mean())
    np.testing.assert_allclose(gradient_flow(model, tokens), expected, rtol=1e-4)


@pytest.mark.parametrize("cell", ["gru", "lstm", "simple_rnn"])
def test_a_small_change_of_the_state_changes_the_loss_by_the_gradient(cell):
    """Checks all states of two layers with finite differences of the loss that follows."""
    model = randomized(ks.language_model(len(VOCABULARY), cell=cell, units=[4, 3], embedding_dim=3), scale=0.8)
    random = np.random.default_rng(3)
    step, tokens = ks.step_model(model), random.integers(0, len(VOCABULARY), (1, 6))

    def advance(states, times):
        for time in times:
            logits, *states = step([*map(keras.ops.convert_to_tensor, (tokens[:, time], *states))])
        return np.asarray(logits, np.float64)[0], states

    def loss(states, first):
        logits, _ = advance(states, range(first, 5))
        return np.log(np.exp(logits).sum()) - logits[tokens[0, -1]]

    norms, lag, change = gradient_flow(model, tokens), 2, 1e-2
    _, states = advance([np.zeros((1, state.shape[1]), "float32") for state in step.inputs[1:]], range(4 - lag))
    states = [np.asarray(state) for state in states]
    total = 0.0
    for index, state in enumerate(states):
        for unit in range(state.shape[1]):
            nudged = [[one.copy() for one in states] for _ in range(2)]
            nudged[0][index][0, unit] += change
            nudged[1][index][0, unit] -= change
            total += ((loss(nudged[0], 4 - lag) - loss(nudged[1], 4 - lag)) / (2 * change)) ** 2
    assert norms[lag] == pytest.approx(np.sqrt(total), rel=5e-3)


def test_windows_of_a_text_are_excerpts_after_the_start_token():
    text = "abcdefg" * 30
    cut = windows(text, VOCABULARY, 20, 8, by_line=False)
    assert cut.shape == (8, 22)
    assert (cut[:, 0] == VOCABULARY.start_id).all()
    assert all(VOCABULARY.decode(row[1:]) in text for row in cut)


def test_windows_of_lines_are_beginnings_of_lines():
    text = "abc\nabcdefg\ngfedcba\n"
    cut = windows(text, VOCABULARY, 5, 8, by_line=True)
    assert sorted(VOCABULARY.decode(row[1:]) for row in cut) == ["abcdef", "gfedcb"]


@pytest.mark.parametrize(("by_line", "expected"), [(True, "below 4, .* longest line"), (False, "below 7, .* text")])
def test_a_text_that_is_too_short_is_rejected(by_line, expected):
    with pytest.raises(ArgumentError, match=rf"`lags` must be {expected}\. Received: lags=100"):
        windows("abc\nabc", VOCABULARY, 100, 4, by_line=by_line)
    lags = 3 if by_line else 6
    assert windows("abc\nabc", VOCABULARY, lags, 1, by_line=by_line).shape == (1, lags + 2)


def test_tokens_of_another_shape_are_rejected():
    with pytest.raises(ValueError, match=r"`tokens.shape` must be .* Received: tokens.shape=\(3, 1\)"):
        gradient_flow(linear_model(), np.zeros((3, 1), int))


def test_a_model_that_cannot_be_stepped_is_rejected():
    layers = [
        keras.layers.Embedding(9, 4),
        keras.layers.Bidirectional(ks.GRU(4, return_sequences=True)),
        keras.layers.Dense(9),
    ]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    with pytest.raises(SteppingError, match="bidirectional"):
        gradient_flow(model, np.zeros((1, 5), int))


def test_the_table_has_one_column_per_curve(tmp_path):
    curves = [FlowCurve("a", "gru", True, np.array([1.0, 0.5])), FlowCurve("b", "lstm", False, np.array([2.0, 0.25]))]
    write_flow(curves, tmp_path / "flow.csv")
    with (tmp_path / "flow.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [["lag", "a, gru", "b, lstm, untrained"], ["0", "1", "2"], ["1", "0.5", "0.25"]]
