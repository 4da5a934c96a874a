import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.models.language_model import parameter_count
from keras_seq.models.stateful import stateful_copy

COUNTS = "`token_counts` must be 11 finite numbers of at least 0, whose sum is finite too"


@pytest.mark.parametrize(("cell", "layer"), [("gru", ks.GRU), ("simple_rnn", ks.SimpleRNN), ("lstm", ks.LSTM)])
def test_layers_are_those_asked_for(cell, layer):
    model = ks.language_model(11, cell=cell, units=[6, 4], embedding_dim=3)
    recurrent = [part for part in model.layers if isinstance(part, keras.layers.RNN)]
    assert [type(part) for part in recurrent] == [layer, layer]
    assert [part.units for part in recurrent] == [6, 4]
    assert model.get_layer("embedding").output_dim == 3
    assert model.output_shape == (None, None, 11)
    assert model(np.zeros((2, 5), "int32")).shape == (2, 5, 11)


def test_a_token_changes_no_logits_before_it():
    model = ks.language_model(11, units=[6, 4], embedding_dim=3)
    tokens = np.random.default_rng(0).integers(0, 11, (1, 8))
    changed = tokens.copy()
    changed[0, 5] = (tokens[0, 5] + 1) % 11
    difference = np.abs(model(tokens) - model(changed)).max(axis=-1)[0]
    assert (difference[:5] == 0).all()
    assert (difference[5:] > 0).all()


def test_dropout_follows_every_recurrent_layer_and_the_embedding():
    model = ks.language_model(11, units=[6, 4], dropout=0.3, embedding_dropout=0.1)
    dropped = [part.rate for part in model.layers if isinstance(part, keras.layers.Dropout)]
    assert dropped == [0.1, 0.3, 0.3]
    kinds = [type(part).__name__ for part in model.layers if not isinstance(part, keras.layers.InputLayer)]
    assert kinds == ["Embedding", "Dropout", "GRU", "Dropout", "GRU", "Dropout", "Dense"]
    assert not any(isinstance(part, keras.layers.Dropout) for part in ks.language_model(11, units=[6]).layers)


SMALL = 0.1 / 12**0.5  # of numbers uniform in ±0.05


@pytest.mark.parametrize(
    ("initializer", "tied", "deviation"),
    [
        (None, False, 1.0),
        (None, True, SMALL),
        *((name, tied, found) for name, found in (("normal", 1.0), ("uniform", SMALL)) for tied in (False, True)),
    ],
)
def test_embeddings_begin_with_their_deviation(initializer, tied, deviation):
    model = ks.language_model(200, units=[6], embedding_dim=50, embedding_initializer=initializer, tie_embeddings=tied)
    embeddings = model.get_layer("embedding").embeddings.numpy()
    assert embeddings.std() == pytest.approx(deviation, rel=0.05)  # 10,000 numbers: seven standard errors
    assert abs(embeddings.mean()) < deviation / 20


def test_logits_stay_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = ks.language_model(11, units=[6])
        assert model.get_layer("gru_0").compute_dtype == "float16"
        assert model(np.zeros((2, 5), "int32")).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "transformer"}, "`cell` must be one of gru, simple_rnn, lstm. Received: cell='transformer'"),
        ({"vocabulary_size": 0}, "vocabulary_size=0"),
        ({"embedding_dim": -1}, "embedding_dim=-1"),
        (
            {"embedding_initializer": "zeros"},
            "`embedding_initializer` must be one of normal, uniform. Received: embedding_initializer='zeros'",
        ),
        ({"units": []}, "units=[]"),
        ({"units": [8, 0]}, "units=[8, 0]"),
        ({"units": [8.0]}, "units=[8.0]"),
        ({"units": [True]}, "units=[True]"),
        ({"units": 8}, "units=8"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"embedding_dropout": -0.1}, "embedding_dropout=-0.1"),
        ({"weight_dropout": 1.0}, "weight_dropout=1.0"),
        ({"weight_dropout": 0.1, "cell": "lstm"}, "`weight_dropout` needs `cell` to be gru. Received: lstm"),
        ({"tie_embeddings": "no"}, "Received: tie_embeddings='no'"),
        ({"ngrams": 1}, "`ngrams` must be 0 or an integer from 2 to 8. Received: ngrams=1"),
        ({"ngrams": 9}, "`ngrams` must be 0 or an integer from 2 to 8. Received: ngrams=9"),
        ({"ngrams": True}, "`ngrams` must be 0 or an integer from 2 to 8. Received: ngrams=True"),
        ({"ngram_rows": 97}, "`ngram_rows` needs `ngrams`"),
        ({"ngrams": 4, "ngram_rows": 1}, "`ngram_rows` must be an integer of at least 2. Received: ngram_rows=1"),
        ({"ngrams": 4, "ngram_rows": 2.5}, "Received: ngram_rows=2.5"),
        (
            {"ngrams": 4, "ngram_rows": 10_738, "vocabulary_size": 50_000},
            "`ngram_rows` must be an integer from 2 to 10,737, for 50,000 tokens and ngrams=4. Received: ngram_rows=10738",
        ),
        ({"token_counts": [1, 2]}, f"{COUNTS}. Received: token_counts='int64 of shape (2,)'"),
        ({"token_counts": [5, -1] + [0] * 9}, f"{COUNTS}. Received: token_counts='-1 at 1'"),
        ({"token_counts": ["a"] * 11}, f"{COUNTS}. Received: token_counts='<U1 of shape (11,)'"),
        ({"token_counts": [[1]] * 10 + [[2, 3]]}, f"{COUNTS}. Received: token_counts='lists of different lengths'"),
        ({"token_counts": [float("nan")] * 11}, f"{COUNTS}. Received: token_counts='nan at 0'"),
        ({"token_counts": [1e308] * 11}, f"{COUNTS}. Received: token_counts='the sum inf'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=r"Received: |needs") as error:
        ks.language_model(**{"vocabulary_size": 11, **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize(("embedding_dim", "extra"), [(6, 0), (4, 6 * 4 + 4)])
def test_tied_embeddings_are_the_kernel_of_the_logits(embedding_dim, extra):
    model = ks.language_model(11, units=[6], embedding_dim=embedding_dim, tie_embeddings=True)
    recurrent = next(layer for layer in model.layers if isinstance(layer, ks.GRU))
    assert model.count_params() == 11 * embedding_dim + recurrent.count_params() + extra + 11
    bias = np.random.default_rng(1).normal(size=11).astype("float32")
    model.get_layer("logits").bias.assign(bias)
    tokens = np.random.default_rng(0).integers(0, 11, (1, 5))
    table = np.asarray(model.get_layer("embedding").embeddings)
    state = np.asarray(recurrent(table[tokens]))
    if extra:
        state = np.asarray(model.get_layer("projection")(state))
    np.testing.assert_allclose(model(tokens), state @ table.T + bias, atol=1e-5)


@pytest.mark.parametrize("tied", [{}, {"tie_embeddings": True}])
def test_logits_begin_at_the_frequencies_of_the_tokens(tied):
    counts = [0, 0, 0, 7, 1, 2]
    model = ks.language_model(6, units=[4], embedding_dim=4, token_counts=counts, **tied)
    model.get_layer("gru_0").set_weights([0 * weight for weight in model.get_layer("gru_0").get_weights()])
    logits = np.asarray(model(np.array([[2, 3]])), np.float64)
    np.testing.assert_allclose(np.exp(logits), [[np.divide([1, 1, 1, 8, 2, 3], 16)] * 2], rtol=1e-6)


@pytest.mark.parametrize("embedding_dim", [6, 4])
def test_a_model_of_tied_embeddings_can_be_stepped_saved_and_carry_its_state(embedding_dim, tmp_path):
    model = ks.language_model(11, units=[6], embedding_dim=embedding_dim, tie_embeddings=True)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 5))
    expected = np.asarray(model(tokens))
    step, state = ks.step_model(model), keras.ops.zeros((2, 6))
    for time in range(5):
        logits, state = step([keras.ops.convert_to_tensor(tokens[:, time]), state])
        np.testing.assert_allclose(logits, expected[:, time], atol=1e-5)
    np.testing.assert_allclose(stateful_copy(model, 2)(tokens), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(tokens), expected)


@pytest.mark.parametrize(("tokens", "rows"), [(100, 22_993), (50_000, 10_737)])
def test_the_table_of_ngrams_is_as_large_as_its_hashes_allow(tokens, rows):
    model = ks.language_model(tokens, units=[2], embedding_dim=3, tie_embeddings=True, ngrams=4)
    assert model.get_layer("ngrams").cell.rows == rows
    assert model.count_params() == parameter_count(tokens, "gru", [2], 3, tie_embeddings=True, ngrams=4)


@pytest.mark.parametrize("tied", [{}, {"tie_embeddings": True}, {"tie_embeddings": True, "units": [5]}])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_ngrams_are_added_to_the_logits_or_to_what_tied_embeddings_make_logits_of(cell, tied, tmp_path):
    options = {"vocabulary_size": 11, "cell": cell, "units": [6], "embedding_dim": 6, **tied}
    model = ks.language_model(**options, ngrams=3, ngram_rows=13)
    plain = ks.language_model(**options)
    plain.set_weights([weights for weights in model.get_weights() if weights.shape[0] != 13])
    tokens = np.random.default_rng(0).integers(0, 11, (2, 9))
    vectors = np.asarray(model.get_layer("ngrams")(tokens))
    if tied:
        vectors = vectors @ np.asarray(model.get_layer("embedding").embeddings).T
    np.testing.assert_allclose(model(tokens), plain(tokens) + vectors, atol=1e-6)
    assert np.abs(vectors).max() > 1e-3
    arguments = [options["units"], options["embedding_dim"], "tie_embeddings" in tied]
    assert model.count_params() == parameter_count(11, cell, *arguments, ngrams=3, ngram_rows=13)
    assert plain.count_params() == parameter_count(11, cell, *arguments)
    step = ks.step_model(model)
    states = [keras.ops.zeros((2, tensor.shape[1])) for tensor in step.inputs[1:]]
    for time in range(9):
        logits, *states = step([keras.ops.convert_to_tensor(tokens[:, time]), *states])
        np.testing.assert_allclose(logits, model(tokens)[:, time], atol=1e-5)
    np.testing.assert_allclose(stateful_copy(model, 2)(tokens), model(tokens), atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(tokens), model(tokens))
