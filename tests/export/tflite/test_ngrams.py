"""Files of a model with n-grams: each signature and quantization is the whole model."""

import numpy as np
import pytest
from hamlet import NGRAMS, TEXT, WIDE, report_of, small_model

import keras_seq as ks
from keras_seq_export import LiteRTSampler

SAME_NUMBERS = [
    {},
    *(
        pytest.param(options, marks=pytest.mark.slow)
        for options in (
            {"batch": 2},
            {"state": "internal"},
            {"gates": True},
            {"tie_embeddings": True},
            {"level": "word"},
        )
    ),
]


@pytest.mark.parametrize("options", SAME_NUMBERS, ids=str)
def test_the_file_scores_a_text_as_the_model_does(small_tflite, options):
    path = small_tflite(**NGRAMS, **options)
    of_model = {name: value for name, value in options.items() if name in ("tie_embeddings", "level")}
    model, vocabulary = small_model(**NGRAMS, **of_model)
    assert report_of(path)["largest_difference"] < 1e-4
    expected = ks.score(model, vocabulary, TEXT).log_probabilities
    if "batch" not in options:
        np.testing.assert_allclose(LiteRTSampler(path).score(TEXT).log_probabilities, expected, atol=1e-4)
    # The n-grams matter: without them, the text is another one.
    model.get_layer("ngrams").set_weights([0 * weight for weight in model.get_layer("ngrams").get_weights()])
    assert np.abs(np.subtract(ks.score(model, vocabulary, TEXT).log_probabilities, expected)).max() > 0.1


@pytest.mark.parametrize(
    ("quantization", "bytes_per_weight", "tolerance"),
    [pytest.param("float16", 2, 0.02, marks=pytest.mark.slow), ("int8", 1, 0.5), ("int4", 1, 1.0)],
)
def test_vectors_of_ngrams_are_quantized_like_embeddings(small_tflite, quantization, bytes_per_weight, tolerance):
    path = small_tflite(quantization=quantization, **NGRAMS, **WIDE)
    model, vocabulary = small_model(**NGRAMS, **WIDE)
    weights = model.get_layer("ngrams").count_params()
    plain = small_tflite(quantization=quantization, **WIDE)
    grown = sum(report_of(path)["stored_bytes"].values()) - sum(report_of(plain)["stored_bytes"].values())
    assert grown < bytes_per_weight * weights + 200
    expected = np.asarray(ks.score(model, vocabulary, TEXT).log_probabilities)
    np.testing.assert_allclose(LiteRTSampler(path).score(TEXT).log_probabilities, expected, atol=tolerance)


def test_hashes_need_no_operators_for_negative_ids(small_tflite):
    found = report_of(small_tflite(**NGRAMS))["operators"]["decode"]
    assert found["FLOOR_MOD"] == 1
    assert not {"LESS", "SELECT", "SELECT_V2"} & set(found)


@pytest.mark.slow
def test_a_text_is_learned_on_the_device(small_tflite):
    sampler = LiteRTSampler(small_tflite(learn=True, **NGRAMS))
    model, vocabulary = small_model(**NGRAMS)
    before = -np.mean(ks.score(model, vocabulary, TEXT).log_probabilities)
    reports = [sampler.learn(TEXT) for _ in range(3)]
    assert reports[0].model_nats_per_token == pytest.approx(before, abs=0.02)
    assert reports[-1].nats_per_token < reports[0].nats_per_token - 0.1


def test_integers_hold_tokens_and_hashes(small_tflite):
    path = small_tflite(quantization="integer", **NGRAMS, **WIDE)
    model, vocabulary = small_model(**NGRAMS, **WIDE)
    expected = np.asarray(ks.score(model, vocabulary, TEXT).log_probabilities)
    found = np.asarray(LiteRTSampler(path).score(TEXT).log_probabilities)
    np.testing.assert_allclose(found, expected, atol=0.5)
    assert abs(found.mean() - expected.mean()) < 0.02
    assert not {"FLOOR_MOD", "CUMSUM", "SUM"} & set(report_of(path)["operators"]["decode"])
