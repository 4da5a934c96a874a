"""What the file does for a token: no product that a table can spare, no operator for ids that do not occur."""

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite

TEXT = "to be, or not to be: that is the question\n"
VOCABULARY = ks.Vocabulary.from_text(TEXT)


def operators(model, vocabulary, folder):
    report = export_tflite(model, vocabulary, folder / "model.tflite")
    return report["operators"]["decode"], report


@pytest.mark.parametrize("cell", ["gru", "simple_rnn", "lstm"])
def test_embeddings_and_kernel_are_one_table_where_it_is_small(cell, tmp_path):
    model = ks.language_model(len(VOCABULARY), cell=cell, units=[32], embedding_dim=32)
    found, report = operators(model, VOCABULARY, tmp_path)
    assert found["FULLY_CONNECTED"] == 2  # The state's and the logits'.
    assert found["GATHER"] == 1
    weights = model.count_params()
    assert report["stored_bytes"]["float32"] < 4 * weights
    assert report["largest_difference"] < 1e-5


def test_a_table_that_would_be_large_is_not_made(tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[32], embedding_dim=4)
    found, report = operators(model, VOCABULARY, tmp_path)
    assert found["FULLY_CONNECTED"] == 3
    assert report["stored_bytes"]["float32"] <= 4 * model.count_params()


def test_embeddings_that_something_else_reads_stay(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 32)(tokens)
    values = keras.layers.Add()([values, ks.GRU(32, return_sequences=True)(values)])
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    found, report = operators(model, VOCABULARY, tmp_path)
    assert found["FULLY_CONNECTED"] == 3
    assert report["largest_difference"] < 1e-5


def test_tied_embeddings_are_stored_once(tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[64], embedding_dim=64, tie_embeddings=True)
    for quantization, size in (("none", 4), ("int8", 1), ("int4", 1)):
        path = tmp_path / quantization
        report = export_tflite(model, VOCABULARY, path, quantization=quantization, max_loss=10)
        assert sum(report["stored_bytes"].values()) < size * model.count_params() + 4 * 64 * 8


def test_no_operator_is_there_for_negative_ids(tmp_path):
    found, _ = operators(ks.language_model(len(VOCABULARY), units=[32]), VOCABULARY, tmp_path)
    assert not {"LESS", "SELECT", "SELECT_V2"} & set(found)
    sampler = LiteRTSampler(tmp_path / "model.tflite")
    for wrong in (-1, len(VOCABULARY)):
        with pytest.raises(RuntimeError, match="out of bounds"):
            sampler(wrong, sampler.initial_states())


def test_a_choice_of_the_users_own_between_tokens_stays(tmp_path):
    """SELECT(x < 3, x + 2, y) looks much like what is taken out, and is not."""
    tokens = keras.Input((None,), dtype="int32")
    moved = keras.ops.where(tokens < 3, tokens + 2, tokens * 1)
    values = keras.layers.GRU(8, return_sequences=True)(keras.layers.Embedding(8, 8)(moved))
    model = keras.Model(tokens, values)
    export_tflite(model, None, tmp_path / "model.tflite")
    decoder = LiteRTDecoder(tmp_path / "model.tflite")
    rows = np.array([[0, 1, 2, 3, 4, 5]], np.int32)
    states, found = decoder.initial_states(), []
    for step in range(rows.shape[1]):
        output, states = decoder(rows[:, step], states)
        found.append(output[0])
    np.testing.assert_allclose(np.stack(found), model.predict(rows, verbose=0)[0], atol=1e-6)


def test_ids_that_a_model_computes_may_be_negative(tmp_path):
    """Keras lets them count from the end of the embeddings, and so does the file."""
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(len(VOCABULARY), 8)(tokens - 5)
    values = keras.layers.GRU(8, return_sequences=True)(embedded)
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    assert export_tflite(model, VOCABULARY, tmp_path / "model.tflite")["largest_difference"] < 1e-5
