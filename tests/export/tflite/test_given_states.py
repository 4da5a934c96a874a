"""States given to a .tflite and returned by it: texts in parts, in one runtime or in two, in fresh processes."""

import subprocess
import sys

import numpy as np
import pytest
from hamlet import starting_model

import keras_seq as ks
from keras_seq.generation.states import TextStates
from keras_seq_export import LiteRTSampler

GREEDY = {"temperature": 0.0, "bias": {"<eos>": -np.inf}}
CONTINUE = """
import sys
import numpy as np
from keras_seq.generation.states import TextStates
from keras_seq_export import LiteRTSampler

path, before, after = sys.argv[1:]
saved = np.load(before)
states = TextStates([saved[f"arr_{index}"] for index in range(len(saved.files) - 1)], saved["token"])
text = LiteRTSampler(path).sample(states=states, max_tokens=15, temperature=0.0, bias={"<eos>": -np.inf})
np.savez(after, *text.states.arrays, token=text.states.token)
print(text, end="")
"""


@pytest.fixture(scope="module")
def sampler(exported):
    return LiteRTSampler(exported)


def save(path, states):
    np.savez(path, *states.arrays, token=states.token)


def load(path):
    saved = np.load(path)
    return TextStates([saved[f"arr_{index}"] for index in range(len(saved.files) - 1)], saved["token"])


def test_two_parts_are_one_text(sampler):
    whole = sampler.sample("To be", max_tokens=40, **GREEDY)
    first = sampler.sample("To be", max_tokens=15, **GREEDY)
    assert first + sampler.sample(states=first.states, max_tokens=25, **GREEDY) == whole
    writing = sampler.generate("To be", max_tokens=40, **GREEDY)
    begun = "".join(next(writing) for _ in range(7))
    assert begun + sampler.sample(states=writing.states, max_tokens=33, **GREEDY) == whole


def test_keras_then_a_fresh_process_then_keras_write_one_text(model, vocabulary, exported, tmp_path):
    first = ks.sample(model, vocabulary, "To be", max_tokens=15, **GREEDY)
    save(tmp_path / "first.npz", first.states)
    command = [sys.executable, "-X", "utf8", "-c", CONTINUE, exported, tmp_path / "first.npz", tmp_path / "second.npz"]
    second = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    third = ks.sample(model, vocabulary, states=load(tmp_path / "second.npz"), max_tokens=15, **GREEDY)
    assert first + second + third == ks.sample(model, vocabulary, "To be", max_tokens=45, **GREEDY)


def test_one_seed_gives_one_continuation_in_keras_and_litert(model, vocabulary, sampler):
    states = ks.sample(model, vocabulary, "To be", max_tokens=15, **GREEDY).states
    for number, options in enumerate(({}, {"num_samples": 3}, {"logprobs": True}, {"repetition_penalty": 1.3})):
        options = {"max_tokens": 20, "temperature": 0.8, "seed": number, "states": states, **options}
        assert sampler.sample("not", **options) == ks.sample(model, vocabulary, "not", **options)
    beams = {"num_beams": 3, "max_tokens": 20, "states": states}
    assert sampler.sample(**beams) == ks.sample(model, vocabulary, **beams)


def test_a_text_with_a_prompt_between_is_scored_as_a_whole(sampler):
    whole = sampler.score("To be, or not to be")
    after = sampler.generate("To be, ").states
    np.testing.assert_allclose(
        sampler.score("or not to be", states=after).log_probabilities, whole.log_probabilities[7:], atol=1e-5
    )


@pytest.mark.slow
def test_arrays_replace_the_initial_states_of_the_file(small_tflite):
    model, vocabulary = starting_model()
    sampler = LiteRTSampler(small_tflite(starting=True))
    own = sampler.initial_states()
    assert sampler.sample(states=own, seed=1, max_tokens=20) == sampler.sample(seed=1, max_tokens=20)
    for states in ([np.zeros(16), np.zeros(16)], [np.linspace(-2, 2, 16)[None], np.ones((1, 16))]):
        found = sampler.score("To be", states=states).log_probabilities
        expected = ks.score(model, vocabulary, "To be", states=states).log_probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(found - sampler.score("To be").log_probabilities).max() > 1e-2


def test_a_file_with_internal_states_neither_takes_nor_returns_them(small_tflite):
    sampler = LiteRTSampler(small_tflite(state="internal"))
    message = (
        'a .tflite with internal states neither takes nor returns `states`; export the model with state="explicit"'
    )
    text, writing = sampler.sample("To be", max_tokens=5), sampler.generate("To be", max_tokens=5)
    next(writing)
    for call in (
        lambda: text.states,
        lambda: writing.states,
        lambda: sampler.sample(states=[np.zeros(24), np.zeros(16)]),
        lambda: sampler.generate(states=TextStates([np.zeros(24), np.zeros(16)], 5)),
        lambda: sampler.score("To be", states=[np.zeros(24), np.zeros(16)]),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


@pytest.mark.parametrize(
    "wrong", [[np.zeros(24)], [np.zeros(16), np.zeros(24)], [np.zeros((3, 24)), np.zeros((3, 16))]]
)
def test_states_of_other_shapes_are_refused(wrong, sampler):
    message = r"`states` must be a list of 2 arrays, of the shapes \[\(1, 24\), \(1, 16\)\]. Received: states=\[\("
    for states in (wrong, TextStates(wrong, 5)):
        for call in (sampler.sample, sampler.generate, lambda states: sampler.score("To", states=states)):
            with pytest.raises(ValueError, match=message):
                call(states=states)
