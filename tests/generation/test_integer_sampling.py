"""The integer draw against its definition in Python's integers, and against the draw in floating point."""

import json
import math
from decimal import Decimal

import integer_oracle as oracle
import numpy as np
import pytest
from draws import forbidding, probabilities
from hypothesis import example, given
from hypothesis import strategies as st
from paths import VECTORS

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.errors import ArgumentError, ModelError
from keras_seq.generation import integer_sampling, sampling
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.integer_sampling import (
    FORBIDDEN,
    IMPOSSIBLE,
    UNIT,
    IntegerArithmetic,
    IntegerSettings,
    add_bias,
    costs,
    kept_weights,
    logit_step,
    next_token,
)
from keras_seq.generation.sampling import SamplingSettings
from keras_seq.generation.threefry import uniform

CASES = json.loads(VECTORS.read_text())
LAST = UNIT - 1  # the largest uniform number
SCALES = st.floats(2**-24, 0.5, width=32)
LOGITS = st.lists(
    st.integers(-(2**15), 2**15 - 1) | st.integers(-40, 40) | st.sampled_from([FORBIDDEN, 32767, -32767]),
    min_size=1,
    max_size=40,
).filter(lambda row: max(row) > FORBIDDEN)
SETTINGS = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0, 1, 1e-7, 1e-3, 0.05, 30, 1e6]) | st.floats(0, 5),
    top_k=st.integers(0, 45),
    top_p=st.just(1.0) | st.floats(1e-9, 1),
    min_p=st.just(0.0) | st.floats(0, 1),
)


def as_array(logits):
    return np.array(logits, np.int16)


# ---- the definition ----


@pytest.mark.parametrize("case", CASES["integer_draws"])
def test_the_draws_of_the_vectors(case):
    logits = oracle.logits_of(case)
    uniforms, tokens = zip(*case["draws"], strict=True)
    step, integers = case["logit_step"], IntegerSettings(*case["integers"])
    assert oracle.draws(logits, oracle.logit_step(case["scale"]), uniforms, case["integers"]) == list(tokens)
    assert logit_step(case["scale"]) == step
    assert IntegerSettings.of(SamplingSettings(**case["settings"])) == integers
    assert [next_token(as_array(logits), step, number, integers) for number in uniforms] == list(tokens)


@pytest.mark.parametrize("case", CASES["integer_costs"])
def test_the_costs_of_the_vectors(case):
    logits, step = oracle.logits_of(case), case["logit_step"]
    each, _ = costs(as_array(logits), step)
    for token, cost in case["costs"]:
        assert each[token] == (IMPOSSIBLE if cost is None else cost)
    for group, cost in case["groups"]:
        assert costs(as_array(logits), step, group)[1] == (IMPOSSIBLE if cost is None else cost)
        assert oracle.costs(logits, step, group)[1] == cost


@pytest.mark.parametrize("case", CASES["integer_bias"])
def test_the_biases_of_the_vectors(case):
    bias = np.array([-np.inf if added is None else added for added in case["bias"]], np.float32)
    assert add_bias(as_array(case["logits"]), bias, case["scale"]).tolist() == case["biased"]
    assert oracle.biased(case["logits"], case["bias"], case["scale"]) == case["biased"]


@given(LOGITS, SCALES, SETTINGS, st.integers(0, LAST) | st.sampled_from([0, LAST]))
def test_a_draw_is_that_of_the_definition(logits, scale, settings, number):
    integers, step = IntegerSettings.of(settings), logit_step(scale)
    expected = oracle.kept(logits, step, vars(integers).values())
    found = kept_weights(as_array(logits), step, integers)
    assert {token: weight for token, weight in enumerate(found.tolist()) if weight} == {
        token: weight for token, weight in expected.items() if weight
    }
    drawn = oracle.draw(logits, step, number, vars(integers).values())
    assert next_token(as_array(logits), step, number, integers) == drawn


@given(LOGITS, SCALES, st.lists(st.integers(0, 39)))
def test_costs_are_those_of_the_definition(logits, scale, group):
    group = sorted({token for token in group if token < len(logits)})
    each, together = costs(as_array(logits), logit_step(scale), group)
    expected, of_group = oracle.costs(logits, logit_step(scale), group)
    assert each.tolist() == [IMPOSSIBLE if cost is None else cost for cost in expected]
    assert together == (IMPOSSIBLE if of_group is None else of_group)
    assert min(each) >= 0
    assert together >= 0


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**15), 2**15 - 1), st.just(-math.inf) | st.just(0) | st.floats(-(2**99), 2**99, width=32)
        ),
        min_size=1,
    ),
    SCALES,
)
def test_a_bias_is_rounded_and_the_sum_clipped(pairs, scale):
    logits, bias = zip(*pairs, strict=True)
    expected = oracle.biased(logits, [None if added == -math.inf else added for added in bias], scale)
    assert add_bias(as_array(logits), np.array(bias, np.float32), scale).tolist() == expected


@given(SCALES)
def test_a_step_is_that_of_exact_arithmetic(scale):
    assert abs(logit_step(scale) - Decimal(scale) / Decimal(2).ln() * 2**40) <= 1
    assert logit_step(scale) == oracle.logit_step(scale)


@given(st.integers(1, 2**64 - 1))
@example(2**43)
def test_log2(number):
    assert integer_sampling.log2(number) == oracle.log2(number)
    exact = Decimal(number).ln() / Decimal(2).ln() * UNIT
    assert -1.02 < integer_sampling.log2(number) - exact < Decimal("1e-15")  # Decimal rounds the 28th digit.


@given(st.integers(1, 2**64 - 2))
def test_log2_does_not_fall(number):
    assert integer_sampling.log2(number) <= integer_sampling.log2(number + 1)


def test_weights_fall_from_2_30_to_0():
    found = integer_sampling.weights(np.arange(2**16), 2**33).astype(np.int64)
    assert found[0] == 2**30
    assert found[-1] == 0
    assert (np.diff(found) <= 0).all()
    exact = 2.0 ** (30 - np.arange(2**16) / 2**7)
    assert (found - exact <= exact * 1.5e-5).all()
    assert (found - exact >= -1).all()


# ---- the arithmetic of a step ----


def test_what_is_no_setting_of_integers_is_refused():
    with pytest.raises(ArgumentError, match=r"`repetition_penalty` must be 1 \(off\) with a model of integers"):
        IntegerArithmetic(0.01).require_settings(SamplingSettings(repetition_penalty=1.2))
    for scale in (0, -1, 0.6, 2**-25, math.nan, "1", None):
        with pytest.raises(ArgumentError, match=r"`scale` must be a number from 2\^-24 to 0.5"):
            IntegerArithmetic(scale)


def test_logits_that_are_no_integers_of_16_bits_are_refused():
    arithmetic = IntegerArithmetic(0.25)
    for wrong in (math.nan, math.inf, -math.inf, 8192.0, -8192.25):
        with pytest.raises(ModelError, match="integers of 16 bits times the scale"):
            arithmetic.integers(np.float32([0, wrong]))
    with pytest.raises(ModelError, match="each is forbidden"):
        arithmetic.next_token(np.float32([0, 0]), 0.5, SamplingSettings(), forbidding(2, 0, 1))


@given(SCALES)
def test_float32_holds_all_integers_times_a_scale(scale):
    every = np.arange(-(2**15), 2**15, dtype=np.int16)
    restored = IntegerArithmetic(scale).integers(every.astype(np.float32) * np.float32(scale))
    assert np.array_equal(restored, every)


def test_a_step_of_integers_draws_with_the_uniform_numbers_of_every_runtime():
    scale = 2**-8
    arithmetic, logits = IntegerArithmetic(scale), np.array([1, -2, 3, 700, -90, 0, 256], np.int16)
    settings, bias = SamplingSettings(temperature=0.9, top_p=0.99), np.float32([0, 0, 0, -2, 0, 0.3, 0])
    biased = add_bias(logits, bias, scale)
    for number in uniform(3, np.arange(50)):
        drawn = arithmetic.next_token(logits * np.float32(scale), number, settings, bias)
        assert drawn == next_token(biased, logit_step(scale), int(number * UNIT), IntegerSettings.of(settings))


def test_log_probabilities_are_costs_in_octaves():
    arithmetic, logits = IntegerArithmetic(2**-8), np.array([FORBIDDEN, 5, 200, -3, 77], np.int16)
    tokens, group = np.array([0, 1, 3, 4]), np.array([1, 4])
    found, together = arithmetic.log_probabilities(logits * np.float32(2**-8), tokens, group)
    among = np.where(np.isin(np.arange(5), tokens), logits, FORBIDDEN).tolist()
    expected, of_group = oracle.costs(among, logit_step(2**-8), group)
    assert (-found * UNIT).tolist() == [math.inf if cost is None else cost for cost in expected]
    assert -together * UNIT == of_group
    shares = arithmetic.probabilities(logits * np.float32(2**-8), tokens)
    assert shares.tolist() == pytest.approx([0, *(arithmetic.probability(found[token]) for token in tokens[1:])])
    assert shares.sum() == pytest.approx(1, abs=1e-5)


def test_what_is_too_unlikely_for_float64_is_possible_and_what_is_forbidden_is_not():
    arithmetic, logits = IntegerArithmetic(0.5), np.float32([16383.5, -16383.5, -16384])
    shares = arithmetic.probabilities(logits, np.array([0, 1, 2]))
    assert shares[0] == 1
    assert 0 < shares[1] < 1e-300
    assert shares[2] == 0
    nothing, together = arithmetic.log_probabilities(logits, np.array([2]), np.array([2]))
    assert (nothing.max(), together) == (-math.inf, -math.inf)


class Constant(Step):
    """Gives the same logits after every token."""

    def __init__(self, integers, scale):
        self.logits, self.vocabulary_size = as_array(integers) * np.float32(scale), len(integers)
        self.arithmetic = IntegerArithmetic(scale)

    def initial_states(self):
        return []

    def __call__(self, token, states):
        return self.logits, states


VOCABULARY = Vocabulary.from_text("abcdefgh")


def test_a_text_is_drawn_with_integers():
    scale, chosen = 2**-9, {"temperature": 0.7, "top_p": 0.9}
    integers = [900, 800, -700, *range(-300, 501, 100)][: len(VOCABULARY)]
    forbidden = [FORBIDDEN, FORBIDDEN, *integers[2:]]
    uniforms = [int(number * UNIT) for number in uniform(7, np.arange(40))]
    expected = oracle.draws(forbidden, oracle.logit_step(scale), uniforms, oracle.integers_of(**chosen))
    for logprobs in (False, True):
        found = sample(Constant(integers, scale), VOCABULARY, max_tokens=40, seed=7, logprobs=logprobs, **chosen)
        assert found.token_ids == [token for token in expected if token != VOCABULARY.eos_id]
        assert len(found.token_ids) == 40


def test_a_text_with_a_repetition_penalty_is_refused_before_it_begins():
    step = Constant(range(0, 100 * len(VOCABULARY), 100), 2**-9)
    with pytest.raises(ArgumentError, match="with a model of integers"):
        Generation(step, VOCABULARY, repetition_penalty=1.1)
    generation = Generation(step, VOCABULARY)
    with pytest.raises(ArgumentError, match="with a model of integers"):
        generation.change(repetition_penalty=1.1)
    assert generation.settings == SamplingSettings()
    assert sample(step, VOCABULARY, num_beams=2, max_tokens=3, repetition_penalty=1.1)  # ranks in floating point


# ---- beside the draw in floating point ----


def float_shares(logits, scale, settings):
    """The distribution from which the float draw takes tokens, in float64 after the filters of float32."""
    kept = sampling.filter_logits(logits * np.float32(scale), settings, np.zeros(len(logits), np.float32), ())
    exact = np.where(np.isneginf(kept), -np.inf, logits * scale / settings.temperature)
    exact = np.exp(exact - exact.max())
    return exact / exact.sum()


def integer_shares(logits, scale, settings):
    found = kept_weights(logits, logit_step(scale), IntegerSettings.of(settings)).astype(np.float64)
    return found / found.sum()


def random_settings(random):
    filters = {
        "top_k": int(random.integers(1, 60)),
        "top_p": float(random.uniform(0.05, 1)),
        "min_p": float(10 ** random.uniform(-4, 0)),
    }
    chosen = {name: value for name, value in filters.items() if random.random() < 0.5}
    return SamplingSettings(temperature=float(np.exp(random.uniform(np.log(0.05), np.log(5)))), **chosen)


def random_logits(random, size):
    scale = float(np.float32(2 ** random.uniform(-14, -6)))
    logits = random.normal(size=size) * random.uniform(0.1, 6) / scale
    return np.clip(np.rint(logits), -32767, 32767).astype(np.int16), scale


def compare(cases, sizes, seed):
    """Returns the largest difference of a probability, and how often a filter keeps other tokens, of random logits."""
    random, largest, others = np.random.default_rng(seed), 0.0, 0
    for index in range(cases):
        (logits, scale), settings = random_logits(random, sizes[index % len(sizes)]), random_settings(random)
        expected, found = float_shares(logits, scale, settings), integer_shares(logits, scale, settings)
        # What is less likely than 2^-30 times the most likely is never drawn.
        if ((expected > expected.max() * 2**-29) & (found == 0)).any() or ((expected == 0) & (found > 0)).any():
            others += 1
        else:
            largest = max(largest, np.abs(expected - found).max())
    return largest, others


def test_probabilities_differ_by_less_than_5e_6_from_those_of_floating_point():
    largest, others = compare(3000, (2, 5, 65, 300, 2000), seed=1)
    assert largest < 5e-6
    assert others <= 15  # A sum or share within rounding of a threshold may be on its other side.


CHI_SQUARED = {5: 25.7, 11: 37.4, 64: 124.0}  # exceeded with a probability of 1e-4, by degrees of freedom


@pytest.mark.parametrize("size", [6, 12, 65])
@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(),
        SamplingSettings(temperature=0.6),
        SamplingSettings(temperature=3.0),
        SamplingSettings(top_k=5),
        SamplingSettings(top_p=0.8),
        SamplingSettings(min_p=0.05),
        SamplingSettings(temperature=1.4, top_k=40, top_p=0.95, min_p=0.01),
    ],
)
def test_frequencies_are_those_of_the_float_draw(size, settings):
    random = np.random.default_rng(size)
    scale, draws = 2**-9, 4000
    logits = np.rint(random.normal(size=size) * 1.5 / scale).astype(np.int16)
    arithmetic, bias = IntegerArithmetic(scale), np.zeros(size, np.float32)
    found = np.bincount(
        [arithmetic.next_token(logits * np.float32(scale), u, settings, bias) for u in uniform(5, np.arange(draws))],
        minlength=size,
    )
    expected = float_shares(logits, scale, settings) * draws
    assert found[expected == 0].sum() == 0
    drawn = expected > 0
    chi_squared = ((found - expected)[drawn] ** 2 / expected[drawn]).sum()
    assert chi_squared < CHI_SQUARED[size - 1]
    at_one = probabilities(logits * scale)
    assert settings != SamplingSettings() or expected / draws == pytest.approx(at_one)


def test_draws_are_almost_always_those_of_the_float_draw():
    random, same, cases = np.random.default_rng(3), 0, 2000
    for number in uniform(1, np.arange(cases)):
        (logits, scale), settings = random_logits(random, 65), random_settings(random)
        logits = logits * np.float32(scale)
        bias = np.zeros(65, np.float32)
        drawn = IntegerArithmetic(scale).next_token(logits, number, settings, bias)
        same += drawn == sampling.next_token(logits, number, settings, bias)
    assert same >= cases - 4
