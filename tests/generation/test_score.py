"""Scores by a Markov chain whose probabilities are known."""

import math

import numpy as np
import pytest
from markov_chain import EOS, VOCABULARY, A, B, MarkovChain

from keras_seq.generation.score import score


def test_each_token_has_the_probability_of_the_chain():
    found = score(MarkovChain(), VOCABULARY, "ab\nb\n\n", by_line=True)
    assert found.token_ids.tolist() == [A, B, EOS, B, EOS]
    np.testing.assert_allclose(np.exp(found.log_probabilities), [0.75, 1, 0.25, 0.25, 0.25], rtol=1e-6)
    assert found.log_probability == pytest.approx(math.log(0.75 * 0.25**3), rel=1e-6)


def test_the_log_probability_of_an_empty_text_is_0():
    assert score(MarkovChain(), VOCABULARY, "").log_probability == 0


def test_an_error_about_nan_logits_has_the_position():
    class NaNAfterB(MarkovChain):
        def __call__(self, token, states):
            logits, states = super().__call__(token, states)
            return (logits * np.nan if token == B else logits), states

    with pytest.raises(ValueError, match="token 2 of the text cannot be scored: the model's logits there are NaN"):
        score(NaNAfterB(), VOCABULARY, "abab")


def test_characters_outside_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="x"):
        score(MarkovChain(), VOCABULARY, "ax")


def test_by_line_is_true_or_false():
    with pytest.raises(ValueError, match=r"`by_line` must be True or False. Received: by_line='no'"):
        score(MarkovChain(), VOCABULARY, "a", by_line="no")
