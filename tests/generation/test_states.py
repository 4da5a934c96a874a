"""States given and returned. The state of the Markov chain counts the tokens that it has read."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markov_chain import EOS, VOCABULARY, A, B, MarkovChain

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.decoder_step import Step
from keras_seq.generation.generation import Generation, sample
from keras_seq.generation.score import score
from keras_seq.generation.states import TextStates, checked_arrays

START = VOCABULARY.start_id


def require_states_after(states, prompt, token_ids, read_before=0):
    """Requires that all tokens but the last were read, and that the last is the token of the states."""
    read = [START, *VOCABULARY.encode(prompt).tolist(), *token_ids]
    assert [array.tolist() for array in states.arrays] == [[[read_before + len(read) - 1]]]
    assert states.token == read[-1]


@given(
    st.text("ab", max_size=4),
    st.integers(0, 2**63),
    st.integers(1, 8),
    st.sampled_from([(), "b", "ba", ["abb", "bb"], "ab"]),
    st.sampled_from([{}, {"num_samples": 3}, {"num_beams": 3}, {"num_beams": 3, "num_samples": 3}]),
    st.booleans(),
)
def test_the_states_of_a_text_are_those_after_its_tokens(prompt, seed, max_tokens, stop, rows, logprobs):
    options = {"seed": seed, "max_tokens": max_tokens, "stop": stop, "logprobs": logprobs, **rows}
    texts = sample(MarkovChain(), VOCABULARY, prompt, **options)
    for text in texts if "num_samples" in rows else [texts]:
        require_states_after(text.states, prompt, text.token_ids)


def test_a_token_in_which_a_stop_string_begins_belongs_to_the_states():
    vocabulary = Vocabulary.from_text("one two", level="word")
    ids = vocabulary.encode("one two").tolist()

    class Words(MarkovChain):
        vocabulary_size = len(vocabulary)

        def __call__(self, token, states):
            logits = np.zeros(len(vocabulary), np.float32)
            logits[ids[int(states[0][0, 0]) % 2]] = 99
            return logits, [states[0] + 1]

    text = sample(Words(), vocabulary, stop="e two")
    assert (text, len(text.token_ids)) == ("on", 1)
    assert (text.states.arrays[0].tolist(), text.states.token) == ([[1]], text.token_ids[0])


@pytest.mark.parametrize("options", [{}, {"stop": "bbbb"}, {"num_beams": 2}])
def test_the_states_of_an_iterator_are_those_after_the_last_piece(options):
    writing = Generation(MarkovChain(), VOCABULARY, "ab", seed=1, max_tokens=6, bias={"<eos>": -np.inf}, **options)
    require_states_after(writing.states, "ab", [])
    token_ids = []
    for piece in writing:
        token_ids.append(piece.token_id)
        require_states_after(writing.states, "ab", token_ids)
    assert len(token_ids) == 6


def test_texts_after_some_of_the_pieces():
    writing = Generation(MarkovChain(), VOCABULARY, seed=1, max_tokens=3, num_samples=3, bias={"<eos>": -np.inf})
    ids = [next(writing).token_id for _ in range(4)]
    first, second, third = writing.texts()
    with pytest.raises(ValueError, match="the pieces of this text were yielded one by one; take `states` of the iter"):
        _ = first.states
    require_states_after(second.states, "", ids[3:] + second.token_ids)
    require_states_after(third.states, "", third.token_ids)
    writing = Generation(MarkovChain(), VOCABULARY, seed=1, max_tokens=3, bias={"<eos>": -np.inf})
    ids = [piece.token_id for piece in writing]
    require_states_after(writing.texts()[0].states, "", ids)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"num_beams": 2}])
def test_a_text_goes_on_without_a_new_start(options):
    first = sample(MarkovChain(), VOCABULARY, "a", max_tokens=3, bias={"<eos>": -np.inf}, **options)
    second = sample(MarkovChain(), VOCABULARY, states=first.states, max_tokens=4, logprobs=True, **options)
    assert first.token_ids[-1] == B
    assert second.startswith("a")
    np.testing.assert_allclose(np.exp(second.log_probabilities[:2]), [0.5, 1.0], rtol=1e-6)
    require_states_after(second.states, "a" + first, second.token_ids)
    third = Generation(MarkovChain(), VOCABULARY, "bb", states=second.states, **options)
    require_states_after(third.states, "a" + first + second + "bb", [])


def test_plain_arrays_are_followed_by_the_start_token():
    text = sample(MarkovChain(), VOCABULARY, "a", states=[np.array([40.0])], seed=1, max_tokens=3)
    require_states_after(text.states, "a", text.token_ids, read_before=40)
    found = score(MarkovChain(), VOCABULARY, "ab\nb", by_line=True, states=[np.array([40.0])])
    np.testing.assert_allclose(np.exp(found.log_probabilities), [0.75, 1, 0.25, 0.25, 0.25], rtol=1e-6)


def test_a_text_is_scored_as_the_continuation_of_another():
    after = Generation(MarkovChain(), VOCABULARY, "bab").states
    found = score(MarkovChain(), VOCABULARY, "bab", states=after)
    np.testing.assert_allclose(np.exp(found.log_probabilities), [0.25, 0.5, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="`by_line` must be False when `states` are those of an earlier text"):
        score(MarkovChain(), VOCABULARY, "b", by_line=True, states=after)


def test_states_given_are_not_changed_and_later_changes_of_theirs_change_nothing():
    given_states = TextStates([np.ones((1, 1), np.float32)], A)
    writing = Generation(MarkovChain(), VOCABULARY, states=given_states, seed=1, bias={"<eos>": -np.inf})
    given_states.arrays[0][:] = 70
    next(writing)
    writing.states.arrays[0][:] = 80
    next(writing)
    assert writing.states.arrays[0].tolist() == [[3]]
    assert given_states.arrays[0].tolist() == [[70]]


def test_a_model_without_initial_states_starts_from_those_given():
    class Decoder(MarkovChain):
        def initial_states(self):
            raise ValueError("give `states`")

    assert sample(Decoder(), VOCABULARY, states=[np.zeros(1)], seed=1) == sample(MarkovChain(), VOCABULARY, seed=1)
    assert score(Decoder(), VOCABULARY, "ab", states=[np.zeros(1)]) is not None
    list(Generation(Decoder(), VOCABULARY, states=[np.zeros(1)], num_beams=2, logprobs=True, max_tokens=3))
    for call in (lambda: Generation(Decoder(), VOCABULARY), lambda: score(Decoder(), VOCABULARY, "ab")):
        with pytest.raises(ValueError, match="give `states`"):
            call()


def test_a_step_whose_states_are_not_arrays_still_generates():
    class Plain(MarkovChain):
        states_of, arrays_of = Step.states_of, Step.arrays_of

    text = sample(Plain(), VOCABULARY, seed=1)
    assert text == sample(MarkovChain(), VOCABULARY, seed=1)
    for one in (text, pickle.loads(pickle.dumps(text)), copy.deepcopy(text)):
        with pytest.raises(ValueError, match="Plain cannot return its states"):
            _ = one.states
    with pytest.raises(ValueError, match="Plain cannot start from `states`"):
        sample(Plain(), VOCABULARY, states=[np.zeros(1)])


SHAPES = [(1, 2), (1, 3)]
EXPECTED = r"`states` must be a list of 2 arrays, of the shapes \[\(1, 2\), \(1, 3\)\]. Received: states="


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([np.zeros(2)], EXPECTED + r"\[\(2,\)\]"),
        ([np.zeros(2)] * 3, EXPECTED + r"\[\(2,\), \(2,\), \(2,\)\]"),
        ([np.zeros(3), np.zeros(2)], EXPECTED + r"\[\(3,\), \(2,\)\]"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], EXPECTED + r"\[\(2, 2\), \(2, 3\)\]"),
        ([np.zeros((1, 2)), np.zeros((1, 1, 3))], EXPECTED),
        ([], EXPECTED + r"\[\]"),
        ([[0.0, [1.0]], np.zeros(3)], EXPECTED + r"\[<class 'list'>, "),
        (["ab", "abc"], EXPECTED + r"\[\(\), \(\)\]"),
        ({"state_0": np.zeros(2)}, EXPECTED + "<class 'dict'>"),
        (np.zeros((1, 2)), EXPECTED + "<class 'numpy.ndarray'>"),
        (
            [np.zeros(2), np.zeros(3, int)],
            "`states` must be arrays of floating-point numbers. Received: states='int64'",
        ),
        ([np.zeros(2), np.zeros(3, complex)], "`states` must be arrays of floating-point numbers"),
        ([np.zeros(2), np.array([0, np.nan, 0])], r"`states\[1\]` must be finite float32 numbers. .*nan"),
        ([np.array([1e300, 0]), np.zeros(3)], r"`states\[0\]` must be finite float32 numbers. .*inf"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        checked_arrays(wrong, SHAPES)


@pytest.mark.parametrize("wrong", [-1, len(VOCABULARY), 1.0, True, "a", None, [A], 2**40])
def test_a_token_outside_the_vocabulary_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`states.token` must be"):
        Generation(MarkovChain(), VOCABULARY, states=TextStates([np.zeros(1)], wrong))
    assert Generation(MarkovChain(), VOCABULARY, states=TextStates([np.zeros(1)], np.array(EOS - 1))).states.token < EOS
