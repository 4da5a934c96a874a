"""Models with internal states go back to earlier ones by reading again; what they keep for it is small and bounded."""

import itertools
import tracemalloc

import numpy as np
import pytest

from keras_seq.errors import ModelError
from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite import history


@pytest.fixture(scope="module")
def samplers(small_tflite):
    """The same model with explicit and with internal states."""
    return LiteRTSampler(small_tflite()), LiteRTSampler(small_tflite(state="internal"))


TOKENS = list(itertools.islice(itertools.cycle([5, 9, 14, 6, 22, 3, 17]), 600))


def test_earlier_states_are_those_of_explicit_ones(samplers):
    """Steps are stored together in blocks of 256; the states stand before, at and after their ends."""
    explicit, internal = samplers
    kept, (_, states), (_, expected) = [], *(one.prefill(TOKENS[:70], one.initial_states()) for one in samplers[::-1])
    for number, token in enumerate(TOKENS):
        if number in (0, 1, 254, 255, 256, 257, 300, 511, 512, 513, 599):
            kept.append((states, expected))
        _, states = internal(token, states)
        _, expected = explicit(token, expected)
    for states, expected in kept[::-1] + kept:
        for token in (4, 20):
            np.testing.assert_allclose(internal(token, states)[0], explicit(token, expected)[0], atol=1e-6)


def test_a_step_is_kept_in_few_bytes(samplers):
    _, internal = samplers
    states = internal.initial_states()
    for token in TOKENS[:10]:
        _, states = internal(token, states)
    tracemalloc.start()
    steps = 2560
    for token in itertools.islice(itertools.cycle(TOKENS), steps):
        _, states = internal(token, states)
    assert states.calls()[-1][0] == "decode"
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # Up to 255 single steps are objects.
    assert grown < 12 * steps + 255 * 700


def test_what_is_kept_is_bounded_and_never_wrong(samplers, monkeypatch):
    explicit, internal = samplers
    monkeypatch.setattr(history, "MOST_BYTES", 400)
    states, expected = internal.initial_states(), explicit.initial_states()
    for number, token in enumerate(TOKENS[:150]):
        before = states
        logits, states = internal(token, states)
        other, expected = explicit(token, expected)
        np.testing.assert_allclose(logits, other, atol=1e-6)
        if number == 50:
            early, early_expected = states, expected
    assert states.previous is None
    for lost in (before, states):
        internal(3, internal.initial_states())
        with pytest.raises(ModelError, match=r"can only be used for the step after them: .* (596|600) bytes"):
            internal(3, lost)
    np.testing.assert_allclose(internal(3, early)[0], explicit(3, early_expected)[0], atol=1e-6)
    assert internal.sample("To be", seed=1, max_tokens=10) == explicit.sample("To be", seed=1, max_tokens=10)
