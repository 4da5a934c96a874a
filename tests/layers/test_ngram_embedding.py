"""`NgramEmbedding` against its equation, computed in Python."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.layers.ngram_limits import largest_rows
from keras_seq.models.carried_states import read_states, reset_states


def expected_vectors(layer, tokens):
    """v(t) = sum over n of table[(x(t) + x(t-1) b + ... + x(t-n+1) b^(n-1)) mod rows], one token after the other."""
    arguments = layer.get_config()
    base, rows = arguments["input_dim"], arguments["rows"]
    if base**2 > rows:
        base = round((math.sqrt(5) - 1) / 2 * rows)
    while math.gcd(base, rows) > 1:
        base += 1
    table = layer.get_weights()[0].astype(np.float64)
    vectors = np.zeros((*tokens.shape, arguments["output_dim"]))
    for row, time in np.ndindex(tokens.shape):
        for length in range(2, arguments["longest"] + 1):
            hashed = sum(int(tokens[row, time - age]) * base**age for age in range(length) if age <= time)
            vectors[row, time] += table[hashed % rows]
    return vectors


@given(
    input_dim=st.integers(1, 300),
    longest=st.integers(2, 8),
    rows=st.integers(2, 400),
    steps=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_vectors_are_those_of_the_equation(input_dim, longest, rows, steps, seed):
    layer = ks.NgramEmbedding(input_dim, 3, longest, rows)
    tokens = np.random.default_rng(seed).integers(0, input_dim, (2, steps))
    vectors = layer(tokens)
    np.testing.assert_allclose(vectors, expected_vectors(layer, tokens), rtol=1e-5, atol=1e-7)


def test_the_largest_hashes_do_not_overflow():
    layer = ks.NgramEmbedding(500_000, 2, 4, rows=largest_rows(500_000, 4))
    tokens = np.full((1, 6), 499_999)
    np.testing.assert_allclose(layer(tokens), expected_vectors(layer, tokens), rtol=1e-5)


def test_pairs_of_tokens_share_no_row_if_there_are_enough():
    layer = ks.NgramEmbedding(30, 1, longest=2, rows=907)
    pairs = np.stack(np.meshgrid(np.arange(30), np.arange(30)), axis=-1).reshape(-1, 2)
    layer(pairs[:1])
    layer.set_weights([np.arange(907.0)[:, None]])
    assert len(np.unique(np.asarray(layer(pairs))[:, 1])) == 900


@pytest.mark.parametrize("rows", [64, 1024])
def test_rows_that_have_a_factor_in_common_with_the_tokens_still_depend_on_each_token(rows):
    layer = ks.NgramEmbedding(32, 1, longest=4, rows=rows)
    tokens = np.array([[5, 6, 7, 8]])
    layer(tokens)
    layer.set_weights([np.sqrt(np.arange(1.0 * rows))[:, None]])
    vector = float(layer(tokens)[0, -1, 0])
    for age in range(4):
        changed = tokens.copy()
        changed[0, 3 - age] += 1
        assert float(layer(changed)[0, -1, 0]) != vector


@pytest.mark.parametrize(
    ("input_dim", "rows"), [(32_750, 32_749), (16_375, 32_749), (10_000, 32_749), (68, 4099), (300, 64)]
)
def test_pairs_share_rows_as_seldom_as_by_chance(input_dim, rows):
    """Neighboring ids and sums, which a poor multiplier maps to one row."""
    layer = ks.NgramEmbedding(input_dim, 1, longest=2, rows=rows)
    pairs = np.array([(first, second) for first in range(60) for second in range(60)])
    layer(pairs[:1])
    layer.set_weights([np.arange(1.0 * rows)[:, None]])
    found = np.asarray(layer(pairs))[:, 1, 0]
    by_chance = rows * (1 - np.exp(-len(pairs) / rows))
    assert len(np.unique(found)) > 0.9 * by_chance


def test_a_stateful_layer_goes_on_where_the_batch_before_ended():
    model = keras.Sequential([keras.Input((None,), batch_size=2, dtype="int32"), ks.NgramEmbedding(20, 4, 5, 101)])
    tokens = np.random.default_rng(1).integers(0, 20, (2, 17))
    whole = model(tokens)
    stateful = ks.stateful_copy(model, batch_size=2)
    parts = [stateful(tokens[:, start:end]) for start, end in ((0, 1), (1, 3), (3, 17))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    (state,) = read_states(stateful)
    np.testing.assert_array_equal(state, tokens[:, :-5:-1])
    reset_states(stateful)
    np.testing.assert_array_equal(stateful(tokens), whole)


def test_the_loop_of_keras_gives_the_same_vectors_and_states():
    layer = ks.NgramEmbedding(20, 4, 4, 101, return_state=True)
    tokens = np.random.default_rng(2).integers(0, 20, (3, 9))
    start = np.array([[3.0, 2, 1]] * 3, "float32")
    vectors, state = layer(tokens, initial_state=[start])
    loop = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
    for result, expected in zip((vectors, state), loop(tokens[..., None], initial_state=[start]), strict=True):
        np.testing.assert_array_equal(result, expected)
    longer = layer(np.concatenate([[[1, 2, 3]] * 3, tokens], axis=1))[0]
    np.testing.assert_array_equal(vectors, longer[:, 3:])


def test_a_masked_token_is_skipped():
    layer = ks.NgramEmbedding(20, 4, 3, 101)
    tokens, mask = np.array([[4, 9, 9, 5, 6]]), np.array([[True, False, False, True, True]])
    vectors = np.asarray(layer(tokens, mask=mask))
    np.testing.assert_array_equal(vectors[:, mask[0]], layer(tokens[:, mask[0]]))


def test_backwards_it_reads_the_last_token_first():
    layer = ks.NgramEmbedding(20, 4, 3, 101, go_backwards=True)
    tokens = np.random.default_rng(5).integers(0, 20, (2, 6))
    np.testing.assert_allclose(layer(tokens), expected_vectors(layer, tokens[:, ::-1]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("state", [[np.zeros((1, 3))], [np.zeros((1, 1))], [np.zeros((1, 2))] * 2, [np.zeros(2)]])
def test_an_initial_state_of_another_shape_is_refused(state):
    layer = ks.NgramEmbedding(20, 4, 3, 101)
    with pytest.raises(ValueError, match=r"`initial_state` must be a list with one array \(batch, 2\). Received: "):
        layer(np.array([[1, 2, 3]]), initial_state=state)


@pytest.mark.parametrize("tokens", [np.array([1, 2, 3]), np.zeros((1, 3, 20)), keras.Input((), dtype="int32")])
def test_tokens_of_another_rank_are_refused(tokens):
    with pytest.raises(ValueError, match="expected ndim=2, found ndim="):
        ks.NgramEmbedding(20, 4, 3, 101)(tokens)


def test_sizes_may_be_integers_of_numpy():
    layer = ks.NgramEmbedding(*map(np.int64, (20, 4, 3, 101)))
    assert layer(np.array([[1, 2, 3]])).shape == (1, 3, 4)
    assert all(type(layer.get_config()[name]) is int for name in ("input_dim", "output_dim", "longest", "rows"))


def test_only_the_last_vector_without_return_sequences():
    layer = ks.NgramEmbedding(20, 4, 3, 101, return_sequences=False)
    tokens = np.random.default_rng(3).integers(0, 20, (2, 6))
    np.testing.assert_allclose(layer(tokens), expected_vectors(layer, tokens)[:, -1], rtol=1e-5, atol=1e-7)


def test_token_ids_stay_exact_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = ks.NgramEmbedding(60_000, 3, 3, 5003)
    finally:
        keras.config.set_dtype_policy(before)
    tokens = np.random.default_rng(4).integers(50_000, 60_000, (2, 6))
    np.testing.assert_allclose(layer(tokens), expected_vectors(layer, tokens), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "named", [{}, {"return_sequences": False, "stateful": True, "name": "pairs", "trainable": False}]
)
def test_a_layer_is_made_again_from_its_configuration(named):
    layer = ks.NgramEmbedding(20, 4, longest=3, rows=101, **named)
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.serialize_keras_object(keras.saving.deserialize_keras_object(config)) == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": 0}, "`input_dim` must be a positive integer. Received: input_dim=0"),
        ({"output_dim": 1.5}, "`output_dim` must be a positive integer. Received: output_dim=1.5"),
        ({"longest": 1}, "`longest` must be an integer from 2 to 8. Received: longest=1"),
        ({"longest": 9}, "`longest` must be an integer from 2 to 8. Received: longest=9"),
        ({"rows": 1}, "`rows` must be an integer from 2 to 26,843,545. Received: rows=1"),
        ({"rows": 26_843_546}, "Received: rows=26843546"),
        (
            {"dtype": "float16"},
            "`dtype` must be float32, because half precision rounds token ids. Received: dtype='float16'",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match="Received: ") as error:
        ks.NgramEmbedding(**{"input_dim": 20, "output_dim": 4, "longest": 4, "rows": 101, **arguments})
    assert message in str(error.value)
