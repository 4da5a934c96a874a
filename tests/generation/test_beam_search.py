"""Beam search against an exhaustive search."""

import itertools

import numpy as np
import pytest

from keras_seq.generation.beam_search import beam_search
from keras_seq.generation.sampling import log_softmax

EOS, TOKENS = 0, 4


class Bigram:
    """Logits that depend on the last two tokens; the state is the last one."""

    def __init__(self, seed):
        self.table = np.random.default_rng(seed).normal(size=(TOKENS, TOKENS, TOKENS)) * 1.5

    def __call__(self, token, states):
        return self.table[states[0], token], [token]


def every_text(model, max_tokens, is_stopped, penalty):
    """All texts that end with `<eos>`, a stop string or by their length, best first."""
    found = {}
    for tokens in itertools.product(range(TOKENS), repeat=max_tokens):
        logits, states = model(1, [1])
        total = 0.0
        for length, token in enumerate(tokens, start=1):
            total += log_softmax(logits)[token]
            logits, states = model(token, states)
            if token == EOS or is_stopped(list(tokens[:length])) or length == max_tokens:
                found[tokens[:length]] = total / length**penalty
                break
    return sorted(found.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_all_texts_in_order(seed, penalty):
    model = Bigram(seed)

    def is_stopped(tokens):
        return tokens[-2:] == [2, 3]

    beams = beam_search(
        model,
        *model(1, [1]),
        scores=lambda logits, _: log_softmax(logits),
        has_stop=is_stopped,
        eos_id=EOS,
        max_tokens=4,
        num_beams=TOKENS**4,
        length_penalty=penalty,
    )
    best = every_text(model, 4, is_stopped, penalty)
    assert len(beams) == len(best)
    np.testing.assert_allclose([beam.score(penalty) for beam in beams], [score for _, score in best])
    for beam in beams:
        reason = "eos" if beam.tokens[-1] == EOS else "stop" if is_stopped(beam.tokens) else "length"
        assert beam.finish_reason == reason


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_few_beams_find_a_text_at_least_as_likely_as_greedy(penalty):
    for seed in range(20):
        model = Bigram(seed)
        (best, *_) = beam_search(
            model,
            *model(1, [1]),
            scores=lambda logits, _: log_softmax(logits),
            has_stop=lambda tokens: False,
            eos_id=TOKENS,  # never
            max_tokens=6,
            num_beams=3,
            length_penalty=penalty,
        )
        logits, states = model(1, [1])
        greedy = 0.0
        for _ in range(6):
            token = int(np.argmax(logits))
            greedy += log_softmax(logits)[token]
            logits, states = model(token, states)
        assert sum(best.log_probabilities) >= greedy - 1e-9


@pytest.mark.parametrize("beams", [1, 2, 3])
def test_open_beams_remain_however_many_are_finished(beams):
    """The three most likely tokens complete a stop string; the fourth always follows itself."""
    first = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    forever = np.array([-np.inf, -np.inf, -np.inf, 0.0])
    (best, *_) = beam_search(
        lambda token, states: (forever, states),
        first,
        [],
        scores=lambda logits, _: logits,
        has_stop=lambda tokens: tokens[-1] < 3,
        eos_id=TOKENS,  # never
        max_tokens=50,
        num_beams=beams,
        length_penalty=1.0,
    )
    assert best.tokens == [3] * 50
