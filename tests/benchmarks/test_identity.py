import numpy as np
import pytest
from random_weights import randomized

import keras_seq as ks
from keras_seq.benchmarks import identity
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.keras_step import KerasStep
from keras_seq.generation.sampling import SamplingSettings

TEXT = "the cat, which already ate, was full; the cats, which already ate, were full. "
VOCABULARY = ks.Vocabulary.from_text(TEXT)


@pytest.fixture(scope="module")
def model():
    return randomized(ks.language_model(len(VOCABULARY), units=[12], embedding_dim=6), scale=0.7, seed=5)


@pytest.mark.slow
def test_one_seed_gives_the_same_text_in_every_runtime(model):
    comparison = identity.compare_runtimes(model, VOCABULARY, TEXT, texts=12, max_tokens=20)
    assert comparison.texts == 12
    assert comparison.runtimes == ["SavedModel", "LiteRT sample", "LiteRT decode"]
    assert 12 < comparison.tokens <= 240
    assert all(difference.is_near_tie for difference in comparison.differences)
    assert "other differences: 0" in str(comparison)


def test_a_runtime_that_samples_other_tokens_is_detected(model, monkeypatch):
    def generate(model, vocabulary, requests):
        tokens = identity._by_step(KerasStep(model), vocabulary, requests)
        wrong = [list(row) for row in tokens]
        wrong[1][3] = vocabulary.start_id
        del wrong[2][-1]
        return {"SavedModel": wrong, "LiteRT sample": tokens, "LiteRT decode": tokens}

    monkeypatch.setattr(identity, "_generate", generate)
    comparison = identity.compare_runtimes(model, VOCABULARY, TEXT, texts=3, max_tokens=8)
    errors = [difference for difference in comparison.differences if not difference.is_near_tie]
    assert [(error.runtime, error.sampled, error.distance) for error in errors] == [
        ("SavedModel", "<s>", np.inf),
        ("SavedModel", "(end)", np.inf),
    ]
    assert errors[0].position == 3
    assert "identical everywhere: 1; near-ties: 0; other differences: 2" in str(comparison)


@pytest.mark.parametrize(("number", "token", "distance"), [(0.2, 0, 0), (0.3, 0, 0.05), (0.3, 2, 0.45), (0.9, 1, 0.15)])
def test_the_distance_is_the_probability_between_the_uniform_and_the_tokens_interval(number, token, distance):
    logits = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    found = identity._distance(logits, number, SamplingSettings(), np.zeros(3, np.float32), token)
    assert found == pytest.approx(distance, abs=1e-6)


def test_a_token_that_a_filter_removes_is_infinitely_far():
    logits, added = np.array([0, 9.0], np.float32), np.zeros(2, np.float32)
    assert identity._distance(logits, 0.5, SamplingSettings(top_k=1), added, 0) == np.inf


@pytest.mark.parametrize("arguments", [{"texts": 0}, {"max_tokens": 0}])
def test_texts_and_max_tokens_must_be_positive(model, arguments):
    with pytest.raises(ValueError, match="must be a positive integer"):
        identity.compare_runtimes(model, VOCABULARY, TEXT, **arguments)


@pytest.mark.parametrize("settings", [SamplingSettings(temperature=0), SamplingSettings(top_k=1)])
def test_a_greedy_choice_between_equal_logits_is_a_near_tie(model, settings):
    """Two logits are far above the others, and equal up to rounding."""
    logits = np.full(len(VOCABULARY), -9, np.float32)
    first, second = VOCABULARY.encode("ct").tolist()
    logits[[first, second]] = 1.0, 1.0000001

    class EqualLogits(Step):
        def initial_states(self):
            return []

        def __call__(self, token, states):
            return logits, states

    request = identity.GenerateRequest("", 1, 0, settings)
    difference = identity._difference(EqualLogits(), VOCABULARY, request, "elsewhere", [second], [first])
    assert difference.is_near_tie
    other = VOCABULARY.encode("f").item()
    assert not identity._difference(EqualLogits(), VOCABULARY, request, "elsewhere", [second], [other]).is_near_tie
