"""The loss to quantization against `evaluate`, which reads the whole text with Keras."""

import numpy as np
import pytest

import keras_seq as ks
from keras_seq.generation.keras_step import KerasStep
from keras_seq_export.tflite import quality
from keras_seq_export.tflite.quality import excerpts, measure_quality

TEXT = "to be, or not to be: that is the question\n" * 30
VOCABULARY = ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model():
    return ks.language_model(len(VOCABULARY), units=[16])


class Noisy(KerasStep):
    """The model with logits that are off, as those of a bad file."""

    def __call__(self, token, states):
        logits, states = super().__call__(token, states)
        return logits + np.linspace(0, 5, len(logits), dtype=np.float32), states


def test_windows_are_read_from_the_zero_state(model):
    found = measure_quality(model, KerasStep(model), excerpts(TEXT, VOCABULARY, by_line=False), VOCABULARY)
    # <s> stands before the first; `evaluate` has the text's first token given.
    ids = [VOCABULARY.start_id, *VOCABULARY.encode(TEXT).tolist()]
    rows = [ids[start : start + 257] for start in range(0, len(ids) - 1, 256)]
    nats = 0.0
    for row in rows:
        logits = model.predict(np.array([row[:-1]]), verbose=0)[0].astype(np.float64)
        nats += (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(row) - 1), row[1:]]).sum()
    assert found.tokens == len(TEXT)
    assert found.nats_of_model == pytest.approx(nats / len(TEXT), abs=1e-5)
    assert found.nats_lost == pytest.approx(0, abs=1e-6)
    assert found.greedy_agreement == 1


def test_lines_are_those_of_evaluate(model):
    text = "to be\n\nor not to be:\nthat\n"
    found = measure_quality(model, KerasStep(model), excerpts(text, VOCABULARY, by_line=True), VOCABULARY)
    expected = ks.evaluate(model, VOCABULARY, text, by_line=True)
    assert found.tokens == expected.tokens
    assert found.nats_of_model == pytest.approx(expected.nats_per_token, abs=1e-5)


@pytest.mark.parametrize("held_out", [TEXT, None])
def test_a_worse_file_loses(held_out, model):
    rows = held_out and excerpts(held_out, VOCABULARY, by_line=False)
    found = measure_quality(model, Noisy(model), rows, VOCABULARY)
    assert found.text == ("own" if held_out is None else "held_out")
    assert found.nats_lost > 0.05
    assert found.nats_of_file == pytest.approx(found.nats_of_model + found.nats_lost)
    assert found.greedy_agreement < 1


def test_a_long_text_is_read_in_part_from_all_over(model, monkeypatch):
    monkeypatch.setattr(quality, "TOKENS", 512)
    text = "to be " * 200 + "question\n" * 200
    found = measure_quality(model, KerasStep(model), excerpts(text, VOCABULARY, by_line=False), VOCABULARY)
    assert 256 < found.tokens <= 512
    whole = ks.evaluate(model, VOCABULARY, text, window=256)
    assert found.nats_of_model == pytest.approx(whole.nats_per_token, rel=0.05)


@pytest.mark.parametrize(("text", "words"), [("", "not empty"), ("to x", "`held_out` must hold only")])
def test_a_text_that_does_not_fit_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        excerpts(text, VOCABULARY, by_line=False)


def test_a_line_without_end_is_cut():
    (row,) = excerpts("to be " * 5000, VOCABULARY, by_line=True)
    assert len(row) == quality._LONGEST_LINE + 1
