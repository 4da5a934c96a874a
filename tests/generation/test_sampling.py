"""The draw against plain-Python definitions, and the graph's draw against the host's."""

import math

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation import sampling
from keras_seq.generation.sampling import SamplingSettings, next_token
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import possible_tokens
from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.signatures import SAMPLING_INPUTS

LOGITS = st.lists(st.integers(-40, 40), min_size=1, max_size=12).map(lambda row: np.array(row, np.float32) / 4)


def without(size, *forbidden):
    """What is added to the logits so that some ids are never drawn."""
    added = np.zeros(size, np.float32)
    added[list(forbidden)] = -np.inf
    return added


def probabilities(logits):
    weights = [math.exp(value - max(logits)) if value > -math.inf else 0.0 for value in map(float, logits)]
    return [weight / sum(weights) for weight in weights]


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
    chances = probabilities(logits)
    if any(abs(chance - p * max(chances)) < 1e-6 for chance in chances):
        return
    assert kept(sampling.keep_min_p(logits, p)) == {i for i, value in enumerate(chances) if value >= p * max(chances)}


def test_draw_is_the_first_id_whose_cumulative_probability_exceeds_the_uniform():
    logits = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    assert [sampling.draw(logits, u) for u in (0, 0.2, 0.26, 0.74, 0.76, 1 - 2**-24)] == [0, 0, 1, 1, 2, 2]


def test_frequencies_are_those_of_the_softmax():
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.0], np.float32)
    draws = 20_000
    counts = np.bincount([sampling.draw(logits, u) for u in uniform(3, np.arange(draws))], minlength=5)
    expected = draws * np.array(probabilities(logits))
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 99.9 % quantile with 4 degrees of freedom


def test_forbidding_is_drawing_again_until_another_comes():
    logits = np.array([1.5, 0.0, 1.0, -0.5], np.float32)
    draws = 20_000
    again = np.zeros(4)
    position = 0
    for _ in range(draws):
        while (token := sampling.draw(logits, uniform(5, position))) == 0:
            position += 1
        position += 1
        again[token] += 1
    forbidden = np.bincount(
        [next_token(logits, u, SamplingSettings(), without(4, 0)) for u in uniform(6, np.arange(draws))], minlength=4
    )
    assert forbidden[0] == 0
    # two samples of one distribution: chi-square with 2 degrees of freedom, 99.9 % quantile 13.8
    assert ((again - forbidden)[1:] ** 2 / (again + forbidden)[1:]).sum() < 13.8


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    penalized = sampling.penalize_repetition(np.array([2.0, -2.0, 3.0], np.float32), [0, 1, 1], 2.0)
    assert penalized.tolist() == [1.0, -4.0, 3.0]


def test_greedy_takes_the_lowest_id_on_a_tie():
    assert next_token(np.array([0, 2, 2], np.float32), 0.9, SamplingSettings(temperature=0), without(3)) == 1


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-40, 1e-320, 1e4, 1e6])
def test_extreme_temperatures(temperature):
    logits = np.array([1.0, 5.0, 2.0], np.float32)
    drawn = {next_token(logits, u, SamplingSettings(temperature=temperature), without(3)) for u in (0.0, 0.5, 0.99)}
    assert drawn == ({1} if temperature < 1 else {0, 1, 2})


def drawn_by_graph(rows, number, choice, *forbidden):
    columns = [("float32", number), *((kind, getattr(choice, name)) for name, kind in SAMPLING_INPUTS.items())]
    values = [np.full(len(rows), value, kind) for kind, value in columns]
    return graph_sampling.next_token(rows, *values, without(rows.shape[1], *forbidden)).numpy().tolist()


ODD = st.floats(-30, 30, width=32) | st.sampled_from([-math.inf, -3e38])
CHOICES = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0.0, 1e-40, 1e-4, 0.7, 1.0, 3.0, 1e6]),
    top_k=st.integers(0, 50),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(-40, 40).map(lambda number: number / 4) | ODD, min_size=2, max_size=40),
    st.integers(0, 2**24 - 1),
    CHOICES,
    st.sampled_from([3, 128]),
    st.sampled_from([0, 4]),
)
def test_the_graph_draws_what_the_host_draws(row, bits, choice, few, group):
    """Few by comparing each with each, many by a look at the largest, in groups or not, and by halving."""
    logits = np.array([0, *row], np.float32)
    number = bits / 2**24
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_sampling, "FEW", few)
        patch.setattr(graph_sampling, "FIRST_LOOK", 2)
        patch.setattr(graph_sampling, "GROUP", group or len(logits))
        drawn = drawn_by_graph(logits[None], number, choice, 1)
    assert set(drawn) <= possible_tokens(logits, number, choice, without(len(logits), 1))


@pytest.mark.parametrize(("vocabulary", "tokens"), [(2000, 10), (2000, 300), (6000, 3000)])
def test_few_or_many_tokens_that_make_up_top_p(vocabulary, tokens):
    """The look at the largest settles the first, halving the others."""
    random = np.random.default_rng(tokens)
    logits = random.normal(size=(40, vocabulary)).astype(np.float32)
    logits[:, :tokens] += 12
    random.permuted(logits, axis=1, out=logits)
    for choice in (SamplingSettings(top_p=0.9), SamplingSettings(top_k=tokens // 2, top_p=0.8)):
        for number in (0.0, 0.37, 1 - 2**-24):
            for row, drawn in zip(logits, drawn_by_graph(logits, number, choice, 5), strict=True):
                assert drawn in possible_tokens(row, number, choice, without(vocabulary, 5))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_ten_thousand_probabilities_add_up(temperature):
    """Where float32 sums are wrong by 1e-5, host and graph agree with exact sums to 1e-7."""
    logits = np.random.default_rng(2).normal(scale=2.5, size=10_000).astype(np.float32)
    exact = np.exp(logits.astype(np.float64) / temperature)
    edges = np.concatenate([[0], np.cumsum(exact / math.fsum(exact))])
    choice = SamplingSettings(temperature=temperature)
    for number in uniform(4, np.arange(300)):
        on_host = next_token(logits, number, choice, without(10_000))
        for token in (on_host, *drawn_by_graph(logits[None], number, choice)):
            assert edges[token] - 1e-7 <= number <= edges[token + 1] + 1e-7


@pytest.mark.parametrize("size", [100, 4000])
def test_litert_draws_what_the_host_draws(size):
    added = without(size, 0)
    signature = [tf.TensorSpec([1, size]), *(tf.TensorSpec([1], kind) for kind in ("float32", *SAMPLING_INPUTS.values()))]

    class Draw(tf.Module):
        @tf.function(input_signature=signature)
        def __call__(self, logits, number, temperature, top_k, top_p, min_p):
            return graph_sampling.next_token(logits, number, temperature, top_k, top_p, min_p, added)

    module = Draw()
    function = module.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    run = Interpreter(model_content=converter.convert()).get_signature_runner()
    random = np.random.default_rng(size)
    for number in uniform(9, np.arange(200)):
        logits = random.normal(scale=random.choice([0.1, 3.0]), size=size).astype(np.float32)
        logits[random.random(size) < random.choice([0, 0.9])] = -np.inf
        logits[-1] = 0
        choice = SamplingSettings(
            temperature=random.choice([0.0, 0.7, 1.0, 3.0]).item(),
            top_k=random.choice([0, 1, 40, 64, 65, 300]).item(),
            top_p=random.choice([1.0, 0.9, 0.3]).item(),
            min_p=random.choice([0.0, 0.02]).item(),
        )
        values = {name: np.array([getattr(choice, name)], kind) for name, kind in SAMPLING_INPUTS.items()}
        (drawn,) = run(logits=logits[None], number=np.array([number]), **values).values()
        assert set(drawn.tolist()) <= possible_tokens(logits, number, choice, added)


def test_one_token_is_always_drawn():
    for choice in (SamplingSettings(), SamplingSettings(temperature=0), SamplingSettings(top_k=1, top_p=0.1, min_p=1)):
        assert next_token(np.array([3.0], np.float32), 0.999, choice, without(1)) == 0
        assert drawn_by_graph(np.array([[3.0]], np.float32), 0.999, choice) == [0]


def test_a_row_of_a_batch_is_drawn_as_if_alone():
    """Also where another row makes the graph halve."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 3000)).astype(np.float32) * np.array([[9.0], [3.0], [0.1]], np.float32)
    choice = SamplingSettings(top_p=0.9)
    for number in np.linspace(0, 0.999, 20):
        together = drawn_by_graph(logits, number, choice)
        assert together == [drawn_by_graph(row[None], number, choice)[0] for row in logits]


def test_a_temperature_that_some_processors_take_for_0_is_greedy():
    """TensorFlow's threads flush what is below the normal float32 numbers to 0, NumPy's do not."""
    logits = np.zeros(3, np.float32)
    for temperature in (1e-40, sampling.SMALLEST_TEMPERATURE / 2):
        choice = SamplingSettings(temperature=temperature)
        assert next_token(logits, 0.5, choice, without(3)) == drawn_by_graph(logits[None], 0.5, choice)[0] == 0
    smallest = SamplingSettings(temperature=sampling.SMALLEST_TEMPERATURE)
    assert next_token(logits, 0.5, smallest, without(3)) == drawn_by_graph(logits[None], 0.5, smallest)[0] == 1


def test_log_probability_is_that_of_the_raw_softmax():
    logits = np.array([[1.0, 2.0, 0.5]], np.float32)
    expected = math.log(probabilities(logits[0])[1])
    assert graph_sampling.log_probability(logits, np.array([1])).numpy()[0] == pytest.approx(expected, abs=1e-6)


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


def test_what_is_never_drawn_and_a_bias_are_added_to_the_logits():
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
        ({"x": 1.0}, "must be for tokens of the vocabulary. Received: bias for 'x'$"),
        ({"be": 1.0}, "bias for 'be'; the word after a space is the token ' be'$"),
        ({"<pad>": 1.0}, "<pad> never is$"),
        ({"<unk>": 1.0}, "<unk> never is unless `allow_unk` is True$"),
        (dict.fromkeys(WORDS.tokens[3:], -math.inf), "must leave a token that may be drawn"),
    ],
)
def test_a_bias_that_cannot_be_is_refused(bias, message):
    with pytest.raises(ValueError, match=f"`bias` .*{message}"):
        sampling.logit_bias(WORDS, SamplingSettings(bias=bias))


@pytest.mark.parametrize("logits", [[math.nan, 1.0], [-math.inf, -math.inf], [0.0, math.inf]])
def test_logits_that_are_no_numbers_are_refused(logits):
    with pytest.raises(ValueError, match="logits"):
        next_token(np.array(logits, np.float32), 0.5, SamplingSettings(), without(2))
