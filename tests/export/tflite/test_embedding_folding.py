"""The lookup of a token: folded products, and no operators for negative ids."""

import keras
import numpy as np
import pytest
from hamlet import STABLE, VOCABULARY, report_of, small_model

import keras_seq as ks
from keras_seq_export import LiteRTDecoder, LiteRTSampler, export_tflite
from keras_seq_export.errors import BundleError


def operators(model, vocabulary, folder):
    report = export_tflite(model, vocabulary, folder / "model.tflite")
    return report["operators"]["decode"], report


@pytest.mark.parametrize(
    "cell", ["gru", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("simple_rnn", "lstm"))]
)
def test_embeddings_and_kernel_become_one_table_if_it_is_small(cell, small_tflite):
    report = report_of(small_tflite(cell=cell, **STABLE))
    found = report["operators"]["decode"]
    assert found["FULLY_CONNECTED"] == 2  # of the state and of the logits
    assert found["GATHER"] == 1
    weights = small_model(cell=cell, **STABLE)[0].count_params()
    assert report["stored_bytes"]["float32"] < 4 * weights
    assert report["largest_difference"] < 1e-5


@pytest.mark.slow
def test_a_table_that_would_be_too_large_is_not_made(tmp_path):
    model = ks.language_model(len(VOCABULARY), units=[32], embedding_dim=4)
    found, report = operators(model, VOCABULARY, tmp_path)
    assert found["FULLY_CONNECTED"] == 3
    assert report["stored_bytes"]["float32"] <= 4 * model.count_params()


@pytest.mark.slow
def test_embeddings_that_something_else_reads_stay(tmp_path):
    tokens = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(len(VOCABULARY), 32)(tokens)
    values = keras.layers.Add()([values, ks.GRU(32, return_sequences=True)(values)])
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    found, report = operators(model, VOCABULARY, tmp_path)
    assert found["FULLY_CONNECTED"] == 3
    assert report["largest_difference"] < 1e-5


@pytest.mark.slow
def test_tied_embeddings_are_stored_once(small_tflite):
    tied = {"units": (64,), "embedding_dim": 64, "tie_embeddings": True}
    weights = small_model(**tied)[0].count_params()
    for quantization, size in (("none", 4), ("int8", 1), ("int4", 1)):
        report = report_of(small_tflite(quantization=quantization, **tied))
        assert sum(report["stored_bytes"].values()) < size * weights + 4 * 64 * 8


def test_there_are_no_operators_for_negative_ids(small_tflite):
    path = small_tflite(cell="gru", **STABLE)
    report = report_of(path)
    assert not {"LESS", "SELECT", "SELECT_V2"} & set(report["operators"]["decode"])
    sampler = LiteRTSampler(path)
    for wrong in (-1, len(sampler.vocabulary)):
        with pytest.raises(BundleError, match="out of bounds"):
            sampler(wrong, sampler.initial_states())


def test_a_select_of_the_model_itself_stays(tmp_path):
    """SELECT(x < 3, x + 2, y) resembles the operators that are removed."""
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


@pytest.mark.slow
def test_ids_that_the_model_computes_may_be_negative(tmp_path):
    """Keras counts them from the end of the embeddings, and so does the file."""
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(len(VOCABULARY), 8)(tokens - 5)
    values = keras.layers.GRU(8, return_sequences=True)(embedded)
    model = keras.Model(tokens, keras.layers.Dense(len(VOCABULARY))(values))
    assert export_tflite(model, VOCABULARY, tmp_path / "model.tflite")["largest_difference"] < 1e-5
