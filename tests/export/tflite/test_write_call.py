"""The signature `write`: 32 tokens in one call, and the same text as without it."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from bundles import rebundled
from changed_models import with_nan_after, without_write
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_seq as ks
from keras_seq.errors import ModelError
from keras_seq.generation.sampling import SamplingSettings, logit_bias
from keras_seq_export import LiteRTSampler
from keras_seq_export.graph.step import GraphStep
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle
from keras_seq_export.tflite.conversion import signature_endpoints


@pytest.fixture(scope="module")
def two_samplers(exported, tmp_path_factory):
    """The sampler of a file, and that of the same file without `write`."""
    path = without_write(exported, tmp_path_factory.mktemp("files") / "without.tflite")
    return LiteRTSampler(exported), LiteRTSampler(path)


def signatures_used(sampler, monkeypatch):
    """Returns a list to which the name of each signature that runs is added."""
    run, used = sampler.decoder.run, []

    def counting(signature, *arguments):
        used.append(signature)
        return run(signature, *arguments)

    monkeypatch.setattr(sampler.decoder, "run", counting)
    return used


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**64 - 1),
    max_tokens=st.integers(1, 150),
    stop=st.lists(st.text("eot ,", min_size=1, max_size=3), max_size=2),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    filters=st.sampled_from([{}, {"top_k": 5}, {"top_p": 0.8, "min_p": 0.01}]),
)
def test_a_text_is_the_same_without_write(two_samplers, seed, max_tokens, stop, temperature, filters):
    options = {"seed": seed, "max_tokens": max_tokens, "stop": stop, "temperature": temperature, **filters}
    one, other = (sampler.sample("To ", **options) for sampler in two_samplers)
    assert (one, one.token_ids, one.finish_reason) == (other, other.token_ids, other.finish_reason)
    for state, expected in zip(one.states.arrays, other.states.arrays, strict=True):
        np.testing.assert_array_equal(state, expected)


@settings(max_examples=30)
@given(
    changes=st.dictionaries(st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0, 2.5]), max_size=4),
    seed=st.integers(0, 1000),
)
def test_a_change_takes_effect_from_the_next_token(two_samplers, changes, seed):
    texts = []
    for sampler in two_samplers:
        generation, pieces = sampler.generate("To ", max_tokens=100, seed=seed), []
        for position, piece in enumerate(generation):
            pieces.append(piece)
            if position in changes:
                generation.change(temperature=changes[position])
        texts.append((pieces, generation.finish_reasons))
    assert texts[0] == texts[1]


def test_states_within_a_call_continue_the_text(two_samplers):
    whole = two_samplers[1].sample("To ", max_tokens=70, seed=3)
    for sampler in two_samplers:
        generation = sampler.generate("To ", max_tokens=70, seed=3)
        for count, _ in enumerate(generation, 1):
            if count in (1, 5, 31, 32, 33, 40):
                states = generation.states
                rest = two_samplers[1].sample(states=states, max_tokens=5, temperature=0)
                expected = two_samplers[1].sample(whole_prompt(whole, count), max_tokens=5, temperature=0)
                assert rest == expected


def whole_prompt(text, count):
    return "To " + "".join(text[:count])


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ({}, "write"),
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.1, "temperature": 0.0}, "write"),
        ({"repetition_penalty": 1.2}, "decode"),
        ({"bias": {"t": 1.0}}, "decode"),
        ({"logprobs": True}, "decode"),
    ],
)
def test_the_file_draws_unless_an_option_needs_the_host(exported, monkeypatch, options, signature):
    sampler = LiteRTSampler(exported)
    used = signatures_used(sampler, monkeypatch)
    text = sampler.sample("To", max_tokens=40, seed=1, **options)
    assert set(used[1:]) == {signature}
    assert len(used[1:]) == (-(-len(text) // 32) if signature == "write" else len(text))


def test_rows_that_end_apart_are_compared_on_export(small_tflite):
    """The comparison runs `write` beside `sample` with rows of different lengths; this file was published after it."""
    path = small_tflite(batch=5)
    runners = Interpreter(str(path), num_threads=1)
    assert list(runners.get_signature_list()["write"]["outputs"])[:2] == ["count", "log_probabilities"]
    assert LiteRTSampler(path).sample("To ", max_tokens=60, seed=1) == LiteRTSampler(small_tflite()).sample(
        "To ", max_tokens=60, seed=1
    )


def test_the_step_at_which_the_logits_are_not_finite_is_named(two_samplers, exported, tmp_path):
    """The embedding of one character is NaN: the text is right up to the step that reads it."""
    sampler = LiteRTSampler(with_nan_after(exported, tmp_path / "nan.tflite", "e"))
    seed = next(seed for seed in range(99) if 33 < two_samplers[1].sample("To ", seed=seed).find("e") < 60)
    expected = two_samplers[1].sample("To ", seed=seed)
    position, found = expected.find("e") + 1, []
    with pytest.raises(ModelError, match=f"token {position} of the continuation cannot be drawn: .* must be numbers"):
        found.extend(sampler.generate("To ", seed=seed))
    assert "".join(found) == expected[:position]


def test_a_count_that_is_too_large_is_refused(exported, tmp_path):
    """The output `count` is the input `top_k`."""
    model = flatbuffer.parse(read_bundle(exported).model)
    write = next(one for one in model.signatureDefs if one.signatureKey == b"write")
    count = next(one for one in write.outputs if one.name == b"count")
    count.tensorIndex = next(one for one in write.inputs if one.name == b"top_k").tensorIndex
    sampler = LiteRTSampler(rebundled(exported, tmp_path / "changed.tflite", model=flatbuffer.pack(model)))
    for top_k, received in ((20, 20), (0, 0)):
        with pytest.raises(ModelError, match=f"the file has a damaged model: `write` drew {received} of 10 tokens"):
            sampler.sample("To", max_tokens=10, top_k=top_k)


@pytest.mark.parametrize(
    ("characters", "state", "has_write"),
    [
        (253, "explicit", True),
        (254, "explicit", False),
        (9, "internal", False),
    ],
)
def test_which_files_have_write(characters, state, has_write):
    """256 tokens at most, three of them reserved; and states that the host keeps."""
    vocabulary = ks.Vocabulary.from_text("".join(map(chr, range(0x4E00, 0x4E00 + characters))))
    step = GraphStep(ks.language_model(len(vocabulary), units=[4], embedding_dim=4), vocabulary)
    endpoints = signature_endpoints(step, vocabulary, logit_bias(vocabulary, SamplingSettings()), state, 1, 64)
    assert ("write" in endpoints) == has_write
