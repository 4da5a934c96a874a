"""The draw in a graph and in LiteRT against the draw on the host."""

import math

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from draws import forbidding, probabilities
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_seq.generation.sampling import SMALLEST_TEMPERATURE, SamplingSettings, next_token
from keras_seq.generation.threefry import uniform
from keras_seq_export.comparison import possible_tokens
from keras_seq_export.graph import sampling as graph_sampling
from keras_seq_export.signatures import SAMPLING_INPUTS


def drawn_by_graph(rows, number, choice, *forbidden):
    """The tokens drawn from `rows` `(batch, vocabulary)`, with one number for all rows or one for each."""
    columns = [("float32", number), *((kind, getattr(choice, name)) for name, kind in SAMPLING_INPUTS.items())]
    values = [np.full(len(rows), value, kind) for kind, value in columns]
    return graph_sampling.next_token(rows, *values, forbidding(rows.shape[1], *forbidden)).numpy().tolist()


ODD = st.floats(-30, 30, width=32) | st.sampled_from([-math.inf, -3e38])
CHOICES = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0.0, 1e-40, 1e-4, 0.7, 1.0, 3.0, 1e6]),
    top_k=st.integers(0, 50),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)


@settings(max_examples=200)
@example([0.0, 0.0, 2**-24, -16.0], 2**24 // 3, SamplingSettings(temperature=0.7, top_k=3, top_p=1e-9), 3, 0)
@given(
    st.lists(st.integers(-40, 40).map(lambda number: number / 4) | ODD, min_size=2, max_size=40),
    st.integers(0, 2**24 - 1),
    CHOICES,
    st.sampled_from([3, 128]),
    st.sampled_from([0, 4]),
)
def test_the_graph_draws_what_the_host_draws(row, bits, choice, few, group):
    """Small vocabularies are sorted; large ones have candidates, with or without groups, and bisection."""
    logits = np.array([0, *row], np.float32)
    number = bits / 2**24
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_sampling, "SMALL_VOCABULARY", few)
        patch.setattr(graph_sampling, "CANDIDATES", 2)
        patch.setattr(graph_sampling, "GROUP", group or len(logits))
        drawn = drawn_by_graph(logits[None], number, choice, 1)
    assert set(drawn) <= possible_tokens(logits, number, choice, forbidding(len(logits), 1))


@pytest.mark.parametrize(("vocabulary", "tokens"), [(2000, 10), (2000, 300), (6000, 3000)])
def test_top_p_that_keeps_few_or_many_tokens(vocabulary, tokens):
    """Ten tokens are among the candidates; for the others the graph bisects."""
    random = np.random.default_rng(tokens)
    logits = random.normal(size=(40, vocabulary)).astype(np.float32)
    logits[:, :tokens] += 12
    random.permuted(logits, axis=1, out=logits)
    for choice in (SamplingSettings(top_p=0.9), SamplingSettings(top_k=tokens // 2, top_p=0.8)):
        for number in (0.0, 0.37, 1 - 2**-24):
            for row, drawn in zip(logits, drawn_by_graph(logits, number, choice, 5), strict=True):
                assert drawn in possible_tokens(row, number, choice, forbidding(vocabulary, 5))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_ten_thousand_probabilities_add_up_exactly(temperature):
    """A float32 sum would be wrong by 1e-5; host and graph agree with exact sums to 1e-7."""
    logits = np.random.default_rng(2).normal(scale=2.5, size=10_000).astype(np.float32)
    exact = np.exp(logits.astype(np.float64) / temperature)
    edges = np.concatenate([[0], np.cumsum(exact / math.fsum(exact))])
    choice = SamplingSettings(temperature=temperature)
    numbers = uniform(4, np.arange(300))
    by_graph = drawn_by_graph(np.tile(logits, (300, 1)), numbers, choice)
    for number, in_graph in zip(numbers, by_graph, strict=True):
        on_host = next_token(logits, number, choice, forbidding(10_000))
        for token in (on_host, in_graph):
            assert edges[token] - 1e-7 <= number <= edges[token + 1] + 1e-7


@pytest.mark.parametrize("size", [100, pytest.param(4000, marks=pytest.mark.slow)])
def test_litert_draws_what_the_host_draws(size):
    added = forbidding(size, 0)
    signature = [
        tf.TensorSpec([1, size]),
        *(tf.TensorSpec([1], kind) for kind in ("float32", *SAMPLING_INPUTS.values())),
    ]

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
        assert drawn_by_graph(np.array([[3.0]], np.float32), 0.999, choice) == [0]


def test_a_row_of_a_batch_is_drawn_as_if_alone():
    """This holds even if another row makes the graph bisect."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 3000)).astype(np.float32) * np.array([[9.0], [3.0], [0.1]], np.float32)
    choice = SamplingSettings(top_p=0.9)
    for number in np.linspace(0, 0.999, 20):
        together = drawn_by_graph(logits, number, choice)
        assert together == [drawn_by_graph(row[None], number, choice)[0] for row in logits]


def test_a_subnormal_temperature_is_greedy():
    """TensorFlow's threads flush subnormal float32 numbers to 0; NumPy does not."""
    logits = np.zeros(3, np.float32)
    for temperature in (1e-40, SMALLEST_TEMPERATURE / 2):
        choice = SamplingSettings(temperature=temperature)
        assert next_token(logits, 0.5, choice, forbidding(3)) == drawn_by_graph(logits[None], 0.5, choice)[0] == 0
    smallest = SamplingSettings(temperature=SMALLEST_TEMPERATURE)
    assert next_token(logits, 0.5, smallest, forbidding(3)) == drawn_by_graph(logits[None], 0.5, smallest)[0] == 1


def test_log_probability_is_that_of_the_softmax_before_any_filter():
    logits = np.array([[1.0, 2.0, 0.5]], np.float32)
    expected = math.log(probabilities(logits[0])[1])
    assert graph_sampling.log_probability(logits, np.array([1])).numpy()[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 7, -1, -(2**63), 2**63 - 1, 12345678901234567])
def test_uniform_in_a_graph_is_that_of_the_host(seed):
    positions = np.arange(64, dtype=np.int32)
    graph = graph_sampling.uniform(np.full(64, seed, np.int64), positions)
    np.testing.assert_array_equal(graph.numpy(), uniform(seed, positions))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31 - 1))
def test_uniform_in_a_graph_is_that_of_the_host_for_any_seed_and_position(seed, position):
    graph = graph_sampling.uniform(np.array([seed], np.int64), np.array([position], np.int32))
    assert graph.numpy()[0] == uniform(seed, position)
