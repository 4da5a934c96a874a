import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.models.stateful import stateful_copy


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
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match="Received: ") as error:
        ks.language_model(**{"vocabulary_size": 11, **arguments})
    assert message in str(error.value)


@pytest.mark.parametrize(("embedding_dim", "extra"), [(6, 0), (4, 6 * 4 + 4)])
def test_tied_embeddings_are_the_kernel_of_the_logits(embedding_dim, extra):
    model = ks.language_model(11, units=[6], embedding_dim=embedding_dim, tie_embeddings=True)
    recurrent = next(layer for layer in model.layers if isinstance(layer, ks.GRU))
    assert model.count_params() == 11 * embedding_dim + recurrent.count_params() + extra
    tokens = np.random.default_rng(0).integers(0, 11, (1, 5))
    table = np.asarray(model.get_layer("embedding").embeddings)
    state = np.asarray(recurrent(table[tokens]))
    if extra:
        state = np.asarray(model.get_layer("projection")(state))
    np.testing.assert_allclose(model(tokens), state @ table.T, atol=1e-5)


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
