"""The token loop over a Markov chain, whose probabilities are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markov_chain import EOS, PROBABILITIES, VOCABULARY, A, B, MarkovChain

from keras_seq.data.vocabulary import Vocabulary
from keras_seq.generation.generation import Generation, sample

SEEDS = st.integers(-(2**63), 2**63 - 1)


def write(prompt="", **options):
    return sample(MarkovChain(), VOCABULARY, prompt, **options)


def test_every_text_is_possible_in_the_chain():
    for seed in range(50):
        text = write(max_tokens=30, seed=seed)
        assert "aa" not in text
        assert text.finish_reason == ("length" if len(text) == 30 else "eos")
        assert len(text) == 30 or text.endswith("b")


def test_the_first_token_comes_from_the_models_own_distribution():
    firsts = [write(seed=seed, max_tokens=1) for seed in range(2000)]
    assert abs(firsts.count("a") / 2000 - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 2000)


def test_the_prompt_is_not_yielded_and_the_same_seed_gives_the_same_text():
    first, again = (list(Generation(MarkovChain(), VOCABULARY, "a", max_tokens=9, seed=4)) for _ in range(2))
    assert first == again
    assert first[0] == "b"


def test_a_random_seed_is_reported():
    writing = Generation(MarkovChain(), VOCABULARY, max_tokens=40)
    assert write(max_tokens=40, seed=writing.seed) == "".join(writing)


@given(SEEDS, st.sampled_from(["", "a", "bab"]))
def test_each_of_several_texts_is_that_of_its_own_seed(seed, prompt):
    texts = write(prompt, max_tokens=12, seed=seed, num_samples=4)
    assert texts == [write(prompt, max_tokens=12, seed=seed + row) for row in range(4)]


def test_the_seed_after_the_largest_is_0():
    assert write(seed=2**64 - 1, num_samples=2)[1] == write(seed=0)


@given(SEEDS, st.lists(st.sampled_from(["b", "ab", "ba", "bb", "bab", "abba"]), min_size=1, max_size=2))
def test_a_text_ends_before_the_stop_string_that_is_completed_first(seed, stops):
    whole = write(max_tokens=20, seed=seed)
    stopped = write(max_tokens=20, seed=seed, stop=stops)
    beginnings = (whole[:end] for end in range(len(whole) + 1))
    ended = next((text for text in beginnings if any(stop in text for stop in stops)), None)
    if ended is None:
        assert (stopped, stopped.finish_reason) == (whole, whole.finish_reason)
    else:
        assert stopped == ended[: min(ended.find(stop) for stop in stops if stop in ended)]
        assert stopped.finish_reason == "stop"


def test_a_stop_string_may_begin_and_end_within_a_word():
    vocabulary = Vocabulary.from_text("another word", level="word")
    ids = vocabulary.encode("another word").tolist()

    class Certain(MarkovChain):
        vocabulary_size = len(vocabulary)

        def __call__(self, token, states):
            logits = np.full(len(vocabulary), -1e9, np.float32)
            logits[ids[int(states[0][0, 0]) % len(ids)]] = 0
            return logits, [states[0] + 1]

    whole = sample(Certain(), vocabulary, max_tokens=len(ids))
    assert whole == "another word"
    text = sample(Certain(), vocabulary, stop="her w")
    assert (text, text.finish_reason) == ("anot", "stop")
    assert vocabulary.decode(text.token_ids).startswith(text)


def test_pieces_held_back_for_a_stop_string_are_yielded_if_it_is_not_completed():
    writing = Generation(MarkovChain(), VOCABULARY, max_tokens=6, seed=1, stop="ba" * 9, bias={"<eos>": -math.inf})
    whole = write(max_tokens=6, seed=1, bias={"<eos>": -math.inf})
    given_out = ""
    for piece in writing:
        given_out += piece
    assert given_out == whole
    assert writing.finish_reasons == ["length"]


def test_settings_change_between_tokens():
    writing = Generation(MarkovChain(), VOCABULARY, "a", max_tokens=60, seed=3)
    assert next(writing) == "b"
    writing.change(bias={"a": -math.inf, "<eos>": -math.inf})
    assert next(writing) == "b"
    writing.change(bias={"b": -math.inf, "<eos>": -math.inf})
    assert next(writing) == "a"
    with pytest.raises(ValueError, match="temperature"):
        writing.change(temperature=-1)
    with pytest.raises(ValueError, match="`settings` must be SamplingSettings"):
        writing.settings = {"temperature": 1}


def test_a_bias_is_added_to_the_logits():
    """A bias of log 3 makes b three times as likely: 0.75 to 0.75 instead of 0.75 to 0.25."""
    firsts = [write(seed=seed, max_tokens=1, bias={"b": math.log(3)}) for seed in range(2000)]
    assert abs(firsts.count("b") / 2000 - 0.5) < 4 * math.sqrt(0.25 / 2000)


def test_log_probabilities_are_those_of_the_chain_whatever_the_settings():
    text = write("a", seed=2, max_tokens=30, logprobs=True, temperature=0.3, bias={"a": 1.0})
    expected, before = [], A
    for token in text.token_ids:
        expected.append(math.log(PROBABILITIES[before][token]))
        before = token
    np.testing.assert_allclose(text.log_probabilities, expected, atol=1e-6)
    assert write("a", seed=2).log_probabilities is None


def test_pieces_have_their_token_and_row():
    pieces = list(Generation(MarkovChain(), VOCABULARY, seed=5, max_tokens=3, num_samples=2, bias={"<eos>": -math.inf}))
    assert [piece.row for piece in pieces] == [0, 0, 0, 1, 1, 1]
    assert VOCABULARY.decode([piece.token_id for piece in pieces]) == "".join(pieces)


def test_the_log_probabilities_of_an_empty_text_are_an_empty_list():
    text = write("b", seed=0, logprobs=True, bias={"a": -math.inf, "b": -math.inf})
    assert (text, text.token_ids, text.log_probabilities, text.finish_reason) == ("", [], [], "eos")


def test_greedy_takes_the_most_likely_token():
    assert write(temperature=0, max_tokens=6) == "ababab"


def test_beam_search_finds_a_more_likely_text_than_greedy():
    """The most likely first token is a, 0.6, but the most likely text is bb, 0.4; aa has 0.6 * 0.5."""
    start = VOCABULARY.start_id
    chain = MarkovChain({start: {A: 0.6, B: 0.4}, A: {A: 0.5, B: 0.5}, B: {B: 1.0}})
    assert sample(chain, VOCABULARY, max_tokens=2, temperature=0) == "aa"
    texts = sample(chain, VOCABULARY, max_tokens=2, num_beams=3, num_samples=3, logprobs=True)
    assert texts == ["bb", "aa", "ab"]
    np.testing.assert_allclose(np.exp(texts[0].log_probabilities), [0.4, 1.0], rtol=1e-6)
    assert [text.finish_reason for text in texts] == ["length"] * 3


def test_beams_end_at_eos_and_at_a_stop_string():
    text = write(num_beams=4, max_tokens=8, length_penalty=0.0)
    assert (text, text.finish_reason) == ("ab", "eos")
    stopped = write(num_beams=4, max_tokens=8, length_penalty=0.0, stop="b")
    assert (stopped, stopped.finish_reason) == ("a", "stop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "`max_tokens` must be a positive integer"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 2**64}, "`seed` must be"),
        ({"seed": "x"}, "`seed` must be"),
        ({"temperature": -1}, "`temperature` must be"),
        ({"prompt": "axz"}, "`prompt` must hold only characters of the vocabulary, which has 2 of them.* 'x'"),
        ({"prompt": 5}, "`prompt` must be a string. Received: prompt=5"),
        ({"logprobs": "no"}, "`logprobs` must be"),
        ({"stop": ""}, "`stop` must be"),
        ({"stop": {"a"}}, "`stop` must be a string or a list of strings"),
        ({"num_samples": 0}, "`num_samples` must be"),
        ({"num_beams": 0}, "`num_beams` must be"),
        ({"num_beams": 2, "num_samples": 3}, "`num_samples` must be at most `num_beams`, 2. Received: `num_samples`=3"),
        (
            {"num_beams": 2, "temperature": 0.5},
            "`temperature` must be left out when `num_beams` is above 1.* Received: `temperature`=0.5",
        ),
        ({"length_penalty": -1}, "`length_penalty` must be"),
        ({"num_beams": 2, "length_penalty": 11}, "`length_penalty` must be"),
        ({"num_beams": 2, "length_penalty": math.nan}, "`length_penalty` must be"),
        ({"bias": {"x": 1.0}}, "`bias` must be for tokens of the vocabulary. Received: bias={'x': 1.0}"),
        ({"bias": {"a": -math.inf, "b": -math.inf, "<eos>": -math.inf}}, "`bias` must leave a token"),
        ({"bias": {"a": math.nan}}, "`bias` must be"),
        ({"bias": {"a": math.inf}}, "`bias` must be"),
        ({"bias": [1]}, "`bias` must be"),
        ({"allow_unk": "yes"}, "`allow_unk` must be"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        Generation(MarkovChain(), VOCABULARY, **arguments)


def test_an_unknown_option_is_refused_with_a_list_of_the_options():
    with pytest.raises(TypeError, match=r"`temprature` is not an option. The options are: max_tokens, stop, .*, bias$"):
        Generation(MarkovChain(), VOCABULARY, temprature=1)
    with pytest.raises(TypeError, match=r"`max_tokens` cannot be changed .*: temperature, top_k, .*, bias$"):
        Generation(MarkovChain(), VOCABULARY).change(max_tokens=5)


def test_settings_cannot_change_during_beam_search():
    with pytest.raises(ValueError, match="`num_beams` above 1 searches for the text as a whole"):
        Generation(MarkovChain(), VOCABULARY, num_beams=2).change(bias={"a": 1.0})


def test_the_vocabulary_must_be_a_vocabulary():
    with pytest.raises(ValueError, match=r"`vocabulary` must be a Vocabulary. Received: vocabulary='to '"):
        Generation(MarkovChain(), "to ")


@pytest.mark.parametrize("options", [{"seed": 1}, {"num_beams": 2}])
def test_an_error_about_nan_logits_has_the_position(options):
    class Broken(MarkovChain):
        def __call__(self, token, states):
            logits, states = super().__call__(A, states)  # b always follows
            return logits * (math.nan if states[0][0, 0] > 2 else 1), states

    with pytest.raises(ValueError, match="token 2 of the continuation"):
        list(Generation(Broken(), VOCABULARY, max_tokens=5, **options))


ABAB = {VOCABULARY.start_id: {A: 1.0}, A: {B: 1.0}, B: {A: 1.0}}
AB_EOS = {VOCABULARY.start_id: {A: 1.0}, A: {B: 1.0}, B: {EOS: 1.0}}


@pytest.mark.parametrize(
    ("chain", "options", "text", "reason"),
    [
        (ABAB, {"stop": ["abb", "ba"]}, "a", "stop"),  # The beginning of "abb" is held back until "ba" is complete.
        (ABAB, {"stop": "abb", "max_tokens": 2}, "ab", "length"),
        (AB_EOS, {"stop": "abb"}, "ab", "eos"),
        (ABAB, {"stop": "ba", "num_beams": 2}, "a", "stop"),
        (AB_EOS, {"num_beams": 2}, "ab", "eos"),
    ],
)
def test_the_finish_reason_is_known_when_the_last_pieces_are_yielded(chain, options, text, reason):
    writing = Generation(MarkovChain(chain), VOCABULARY, **{"max_tokens": 5} | options)
    assert [(piece, list(writing.finish_reasons)) for piece in writing] == [(piece, [reason]) for piece in text]


def test_eos_is_not_yielded():
    assert EOS not in write(seed=0, max_tokens=50).token_ids
