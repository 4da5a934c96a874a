"""The token loop over a Markov chain, whose probabilities are known."""

import math

import numpy as np
import pytest

from keras_seq.generation import generate, score, segments
from keras_seq.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_text("ab")
A, B = VOCABULARY.encode("ab").tolist()
EOS = VOCABULARY.eos_id


CHANCES = {VOCABULARY.start_id: {A: 0.75, B: 0.25}, A: {B: 1.0}, B: {A: 0.5, B: 0.25, EOS: 0.25}}


class MarkovChain:
    """a or b after `<s>`; b after a; after b: a, b or `<eos>`."""

    vocabulary_size = len(VOCABULARY)

    def initial_states(self):
        return [np.zeros((1, 1), np.float32)]

    def __call__(self, token, states):
        row = np.full(len(VOCABULARY), -1e9, np.float32)
        for follower, chance in CHANCES[token].items():
            row[follower] = math.log(chance)
        return row, [states[0] + 1]


def test_every_text_is_one_the_chain_can_write():
    for seed in range(50):
        text = "".join(generate(MarkovChain(), VOCABULARY, max_tokens=30, seed=seed))
        assert "aa" not in text
        assert len(text) == 30 or text.endswith("b")


def test_the_first_token_comes_from_the_models_own_distribution():
    firsts = [next(generate(MarkovChain(), VOCABULARY, seed=seed)) for seed in range(2000)]
    assert abs(firsts.count("a") / 2000 - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 2000)


def test_the_prompt_is_not_given_out_and_the_seed_decides():
    first, again = (list(generate(MarkovChain(), VOCABULARY, "a", max_tokens=9, seed=4)) for _ in range(2))
    assert first == again
    assert first[0] == "b"


def test_score_is_the_log_probability_of_the_chain():
    nats, tokens = score(MarkovChain(), VOCABULARY, segments("ab\nb\n\n", VOCABULARY, by_line=True))
    assert tokens == 5
    assert nats == pytest.approx(-math.log(0.75 * 1 * 0.25 * 0.25 * 0.25), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"temperature": -1}, "temperature"),
        ({"prompt": "axz"}, "x"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(MarkovChain(), VOCABULARY, **arguments)


def test_logits_that_are_not_numbers_name_the_step():
    class Broken(MarkovChain):
        def __call__(self, token, states):
            logits, states = super().__call__(A, states)  # b follows for certain
            return logits * (math.nan if states[0][0, 0] > 2 else 1), states

    with pytest.raises(ValueError, match="token 2 of the continuation"):
        list(generate(Broken(), VOCABULARY, max_tokens=5, seed=1))
