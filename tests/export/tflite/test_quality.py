"""The loss to quantization against `evaluate`, which reads the whole text with Keras."""

import numpy as np
import pytest

import keras_seq as ks
from keras_seq.generation.keras_step import KerasStep
from keras_seq_export.tflite import quality
from keras_seq_export.tflite.quality import excerpts, quality_on_held_out, quality_on_own_text

TEXT = "to be, or not to be: that is the question\n" * 30
VOCABULARY = ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model():
    return ks.language_model(len(VOCABULARY), units=[16])


NOISE = np.linspace(0, 5, len(VOCABULARY), dtype=np.float32)


class Noisy(KerasStep):
    """The model with wrong logits, as of a bad file."""

    def __call__(self, token, states):
        logits, states = super().__call__(token, states)
        return logits + NOISE, states


@pytest.mark.slow
def test_windows_are_read_from_the_zero_state(model):
    found = quality_on_held_out(model, KerasStep(model), excerpts(TEXT, VOCABULARY, by_line=False))
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


def test_lines_are_read_as_evaluate_reads_them(model):
    text = "to be\n\nor not to be:\nthat\n"
    found = quality_on_held_out(model, KerasStep(model), excerpts(text, VOCABULARY, by_line=True))
    expected = ks.evaluate(model, VOCABULARY, text, by_line=True)
    assert found.tokens == expected.tokens
    assert found.nats_of_model == pytest.approx(expected.nats_per_token, abs=1e-5)


def own_text(model):
    ids = np.array([[VOCABULARY.start_id, *VOCABULARY.encode(TEXT[:100])]])
    logits = model.predict(ids, verbose=0)
    return quality_on_own_text(logits, logits + NOISE)


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("held_out", lambda model: quality_on_held_out(model, Noisy(model), excerpts(TEXT, VOCABULARY, by_line=False))),
        ("own", own_text),
    ],
)
def test_a_worse_file_loses(text, measure, model):
    found = measure(model)
    assert found.text == text
    assert found.nats_lost > 0.05
    assert found.nats_of_file == pytest.approx(found.nats_of_model + found.nats_lost)
    assert found.greedy_agreement < 1


def test_the_same_logits_lose_nothing_on_the_own_text():
    logits = np.random.default_rng(0).normal(size=(2, 10, 5)).astype(np.float32)
    found = quality_on_own_text(logits, logits)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert found.nats_of_model == pytest.approx(-(weights * np.log(weights)).sum(-1).mean(), abs=1e-6)
    assert (found.tokens, found.nats_lost, found.greedy_agreement) == (20, 0, 1)


def test_a_long_text_is_read_in_evenly_spaced_parts(model, monkeypatch):
    monkeypatch.setattr(quality, "TOKENS", 512)
    text = "to be " * 200 + "question\n" * 200
    found = quality_on_held_out(model, KerasStep(model), excerpts(text, VOCABULARY, by_line=False))
    assert 256 < found.tokens <= 512
    whole = ks.evaluate(model, VOCABULARY, text, window=256)
    assert found.nats_of_model == pytest.approx(whole.nats_per_token, rel=0.05)


@pytest.mark.parametrize(("text", "words"), [("", "not empty"), ("to x", "`held_out` must hold only")])
def test_a_text_that_does_not_fit_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        excerpts(text, VOCABULARY, by_line=False)


def test_a_very_long_line_is_truncated():
    (row,) = excerpts("to be " * 5000, VOCABULARY, by_line=True)
    assert len(row) == quality._LONGEST_LINE + 1
