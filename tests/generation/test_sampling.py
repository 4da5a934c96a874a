"""The draw on the host against definitions in plain Python."""

import math

import numpy as np
import pytest
from draws import forbidding, probabilities
from hypothesis import given
from hypothesis import strategies as st

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation import sampling
from keras_seq.generation.sampling import SamplingSettings, next_token
from keras_seq.generation.threefry import uniform

LOGITS = st.lists(st.integers(-40, 40), min_size=1, max_size=12).map(lambda row: np.array(row, np.float32) / 4)


def kept(logits):
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


@given(LOGITS, st.integers(0, 15))
def test_top_k_keeps_the_k_largest_and_their_ties(logits, k):
    threshold = sorted(logits, reverse=True)[k - 1] if 0 < k < len(logits) else -math.inf
    assert kept(sampling.keep_top_k(logits, k)) == {i for i, value in enumerate(logits) if value >= threshold}


@given(LOGITS, st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_sufficient_set_and_its_ties(logits, p):
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    mass, count = 0.0, 0
    sums = []
    while count < len(order) and mass < p:
        mass += probabilities(logits)[order[count]]
        sums.append(mass)
        count += 1
    if any(abs(value - p) < 1e-5 for value in sums):
        return  # Rounding may decide either way.
    threshold = logits[order[count - 1]]
    assert kept(sampling.keep_top_p(logits, p)) == {i for i, value in enumerate(logits) if value >= threshold}


@given(LOGITS, st.floats(0.01, 0.99))
def test_min_p_keeps_a_share_of_the_highest(logits, p):
    expected = probabilities(logits)
    threshold = p * max(expected)
    if any(abs(probability - threshold) < 1e-6 for probability in expected):
        return  # Rounding may decide either way.
    assert kept(sampling.keep_min_p(logits, p)) == {i for i, value in enumerate(expected) if value >= threshold}


def test_draw_is_the_first_id_whose_cumulative_probability_exceeds_the_uniform():
    logits = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    assert [sampling.inverse_cdf(logits, u) for u in (0, 0.2, 0.26, 0.74, 0.76, 1 - 2**-24)] == [0, 0, 1, 1, 2, 2]


def test_frequencies_are_those_of_the_softmax():
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.0], np.float32)
    draws = 20_000
    counts = np.bincount([sampling.inverse_cdf(logits, u) for u in uniform(3, np.arange(draws))], minlength=5)
    expected = draws * np.array(probabilities(logits))
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 99.9 % quantile with 4 degrees of freedom


def test_forbidding_a_token_equals_drawing_until_another_comes():
    logits = np.array([1.5, 0.0, 1.0, -0.5], np.float32)
    draws = 20_000
    drawn_again = np.zeros(4)
    uniforms = iter(uniform(5, np.arange(4 * draws)))
    for _ in range(draws):
        while (token := sampling.inverse_cdf(logits, next(uniforms))) == 0:
            pass
        drawn_again[token] += 1
    forbidden = np.bincount(
        [next_token(logits, u, SamplingSettings(), forbidding(4, 0)) for u in uniform(6, np.arange(draws))], minlength=4
    )
    assert forbidden[0] == 0
    # two samples of one distribution: chi-square with 2 degrees of freedom, 99.9 % quantile 13.8
    assert ((drawn_again - forbidden)[1:] ** 2 / (drawn_again + forbidden)[1:]).sum() < 13.8


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    penalized = sampling.penalize_repetition(np.array([2.0, -2.0, 3.0], np.float32), [0, 1, 1], 2.0)
    assert penalized.tolist() == [1.0, -4.0, 3.0]


def test_greedy_takes_the_lowest_id_on_a_tie():
    assert next_token(np.array([0, 2, 2], np.float32), 0.9, SamplingSettings(temperature=0), forbidding(3)) == 1


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-40, 1e-320, 1e4, 1e6])
def test_extreme_temperatures(temperature):
    logits = np.array([1.0, 5.0, 2.0], np.float32)
    drawn = {next_token(logits, u, SamplingSettings(temperature=temperature), forbidding(3)) for u in (0.0, 0.5, 0.99)}
    assert drawn == ({1} if temperature < 1 else {0, 1, 2})


def test_one_token_is_always_drawn():
    for choice in (SamplingSettings(), SamplingSettings(temperature=0), SamplingSettings(top_k=1, top_p=0.1, min_p=1)):
        assert next_token(np.array([3.0], np.float32), 0.999, choice, forbidding(1)) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 1e7),
        ("temperature", 10**400),
        ("top_p", np.complex64(1)),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", 1e-39),
        ("repetition_penalty", 1e39),
        ("bias", {"a": 1e31}),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*{name}="):
        SamplingSettings(**{name: value})


WORDS = Vocabulary.from_text("to be or not to be", level="word")


def test_logit_bias_holds_the_bias_and_forbids_the_rest():
    added = sampling.logit_bias(WORDS, SamplingSettings(bias={" be": 2.5, "<eos>": -math.inf}))
    assert dict(zip(WORDS.tokens, added.tolist(), strict=True)) == {
        **dict.fromkeys(WORDS.tokens, 0.0),
        **dict.fromkeys(["<pad>", "<s>", "<unk>", "<eos>"], -math.inf),
        " be": 2.5,
    }
    allowed = sampling.logit_bias(WORDS, SamplingSettings(allow_unk=True, bias={"<unk>": 1.0}))
    assert allowed[WORDS.unk_id] == 1.0


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({"x": 1.0}, r"must be for tokens of the vocabulary\. Received: bias={'x': 1.0}$"),
        ({"be": 1.0}, r"such as ' be', the word after a space\. Received: bias={'be': 1.0}$"),
        ({"<pad>": 1.0}, r"that may be drawn; <pad> is never drawn\. Received: bias={'<pad>': 1.0}$"),
        ({"<unk>": 1.0}, r"<unk> is never drawn unless `allow_unk` is True\. Received: bias={'<unk>': 1.0}$"),
        (dict.fromkeys(WORDS.tokens[3:], -math.inf), "must leave a token that may be drawn"),
    ],
)
def test_an_invalid_bias_is_refused(bias, message):
    with pytest.raises(ValueError, match=f"`bias` .*{message}"):
        sampling.logit_bias(WORDS, SamplingSettings(bias=bias))


@pytest.mark.parametrize("logits", [[math.nan, 1.0], [-math.inf, -math.inf], [0.0, math.inf]])
def test_logits_that_are_not_finite_are_refused(logits):
    with pytest.raises(ValueError, match="logits"):
        next_token(np.array(logits, np.float32), 0.5, SamplingSettings(), forbidding(2))
