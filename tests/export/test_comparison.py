"""The comparison of an exported file with its model."""

import keras
import numpy as np
import pytest

import keras_seq as ks
from keras_seq.generation.sampling import SamplingSettings
from keras_seq_export import ExportError
from keras_seq_export.comparison import NEAR_TIE, compare, possible_tokens, reference_logits, rounding_variants


def test_outputs_that_are_not_finite_or_differ_in_shape_are_refused():
    with pytest.raises(ExportError, match="finite"):
        compare("decode", np.zeros(2), np.array([0, np.nan]))
    with pytest.raises(ExportError, match="shape"):
        compare("decode", np.zeros(2), np.zeros(3))
    with pytest.raises(ExportError, match=r"decode: the file differs from the model by up to 0\.5, more than 0\.0001"):
        compare("decode", np.zeros(2), np.array([0, 0.5]))
    assert compare("decode", np.zeros(2), np.full(2, 5e-5)) == pytest.approx(5e-5)


def test_reference_logits_are_those_of_the_model_for_any_fixed_batch_or_time():
    keras.utils.set_random_seed(1)
    model = ks.language_model(7, units=[5], embedding_dim=3)
    rows = [np.arange(11, dtype=np.int32) % 7, np.arange(4, dtype=np.int32)]
    expected = [np.asarray(model(row[None]))[0] for row in rows]
    tokens = keras.Input(batch_shape=(2, 3), dtype="int32")
    fixed = keras.Model(tokens, model(tokens))
    for one in (model, ks.stateful_copy(model, 4), fixed):
        for outputs, row in zip(reference_logits(one, rows), expected, strict=True):
            assert outputs.dtype == np.float32
            np.testing.assert_allclose(outputs, row, atol=1e-6)


def test_only_a_near_tie_makes_another_token_possible():
    logits, bias = np.log(np.array([0.1, 0.4, 0.5], np.float32)), np.zeros(3, np.float32)
    assert possible_tokens(logits, 0.3, SamplingSettings(), bias) == {1}
    assert possible_tokens(logits, 0.5 - NEAR_TIE / 2, SamplingSettings(), bias) == {1, 2}
    assert possible_tokens(logits, 0.3, SamplingSettings(temperature=0), bias) == {2}
    tie = np.array([0.0, 1.0, 1.0 + NEAR_TIE / 4], np.float32)
    assert possible_tokens(tie, 0.3, SamplingSettings(temperature=0), bias) == {1, 2}
    assert possible_tokens(tie, 0.3, SamplingSettings(top_k=1), bias) == {1, 2}
    three = np.array([0.0, 0.0, NEAR_TIE / 4], np.float32)
    assert possible_tokens(three, 0.3, SamplingSettings(top_k=1), bias) == {0, 1, 2}
    changes = [change for change, _, _ in rounding_variants(logits, SamplingSettings(), bias)]
    assert changes == [0.0, NEAR_TIE / 2, NEAR_TIE / 2]
